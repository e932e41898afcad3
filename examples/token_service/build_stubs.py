"""Makes the stubs from the .proto file while the wheel is built, and puts them into it beside that file.

They import each other by their full names (`token_service.v1…`), because the .proto file is compiled by its path in
the package. So the package can be used as it is, and nothing generated is kept in the sources.
"""

import pathlib
import tempfile

import grpc_tools
from grpc_tools import protoc
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PROTO = "token_service/v1/tokens.proto"


class Stubs(BuildHookInterface):
    def initialize(self, version, build_data):
        sources = pathlib.Path(self.root) / "src"
        if version == "editable":
            # Such an install is the sources themselves; git is told to leave the stubs out.
            make(sources, sources)
            return
        self.folder = tempfile.TemporaryDirectory(prefix="token-service-stubs-")
        stubs = pathlib.Path(self.folder.name)
        make(sources, stubs)
        for path in stubs.rglob("*.py*"):
            build_data["force_include"][str(path)] = str(path.relative_to(stubs))

    def finalize(self, version, build_data, artifact_path):
        if version != "editable":
            self.folder.cleanup()


def make(sources, stubs):
    well_known = pathlib.Path(grpc_tools.__file__).parent / "_proto"
    outputs = [f"--{kind}_out={stubs}" for kind in ("python", "pyi", "grpc_python")]
    if protoc.main(["protoc", f"-I{sources}", f"-I{well_known}", *outputs, PROTO]) != 0:
        raise RuntimeError(f"cannot make stubs from {sources / PROTO}")
