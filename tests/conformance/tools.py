"""What the suites need and this repository does not have: it is installed in a folder, and found there again."""

import filecmp
import json
import os
import pathlib
import shutil
import subprocess
import sys

FOLDER = pathlib.Path(__file__).resolve().parent

# The Connect project's suite, as its own go.mod pins what it uses. grpc-go's interop programs are pinned in go/go.mod.
CONNECT = "connectrpc.com/conformance"
CONNECT_VERSION = "v1.0.5"
CONNECT_PROGRAMS = ("connectconformance", "referenceserver", "referenceclient", "grpcserver", "grpcclient")
INTEROP = "google.golang.org/grpc/interop"

# Seconds for one installation: with nothing in any cache, on a slow machine.
TIMEOUT = 900


class Tools:
    """Where everything is."""

    def __init__(self, folder):
        self.folder = folder.resolve()
        self.go = self.folder / "go"
        self.node_modules = self.folder / "node/node_modules"
        self.python = self.folder / "python/bin/python"
        self.descriptors = self.folder / "descriptors.binpb"

    def install(self):
        """Everything that is not there yet, or has changed."""
        missing = [name for name in ("go", "node", "npm") if not shutil.which(name)]
        if missing:
            sys.exit(f"{' and '.join(missing)} not found: install Go 1.26 or later, and Node 20 or later with npm")
        for folder in (self.go, self.folder / "node"):
            folder.mkdir(parents=True, exist_ok=True)
        self.install_go()
        self.install_node()
        self.install_python()

    def install_go(self):
        programs = [f"{CONNECT}/cmd/{name}@{CONNECT_VERSION}" for name in CONNECT_PROGRAMS]
        run("go", "install", *programs, env={"GOBIN": str(self.go)})
        run("go", "build", "-o", f"{self.go}/", "./...", cwd=FOLDER / "go")
        for name in ("client", "server"):
            run("go", "build", "-o", self.go / f"interop-{name}", f"{INTEROP}/{name}", cwd=FOLDER / "go")
        self.descriptors.write_bytes(run(self.go / "descriptors"))

    def install_node(self):
        names = ("package.json", "package-lock.json")
        same, _, _ = filecmp.cmpfiles(FOLDER / "node", self.folder / "node", names, shallow=False)
        if len(same) < len(names) or not self.node_modules.is_dir():
            for name in names:
                shutil.copy(FOLDER / "node" / name, self.folder / "node" / name)
            run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=self.folder / "node")

    def install_python(self):
        if not self.python.exists():
            run(sys.executable, "-m", "venv", self.folder / "python")
        run(self.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r",
            FOLDER / "python/requirements.txt")  # fmt: skip

    def environment(self):
        """What the peers want to know."""
        return {"CONFORMANCE_DESCRIPTORS": str(self.descriptors), "NODE_PATH": str(self.node_modules)}

    def versions(self):
        """What ran, as pairs of name and version."""
        package = json.loads((self.node_modules / "@grpc/grpc-js/package.json").read_text())
        grpcio = "import grpc, sys; print(grpc.__version__, sys.version.split()[0])"
        grpcio, python = run(self.python, "-c", grpcio).decode().split()
        go = run("go", "env", "GOVERSION").decode().strip().removeprefix("go")
        return {
            "grpc-go (go)": f"{self.module_in('interop-client', 'google.golang.org/grpc')}, with Go {go}",
            "grpcio (python)": f"{grpcio}, with Python {python}",
            "@grpc/grpc-js (node)": f"{package['version']}, with Node {run('node', '--version').decode().strip()[1:]}",
            "Connect conformance suite": f"{self.module_in('connectconformance', CONNECT)}, with connect-go "
            f"{self.module_in('connectconformance', 'connectrpc.com/connect')} and grpc-go "
            f"{self.module_in('connectconformance', 'google.golang.org/grpc')}",
        }

    def run_version(self, program):
        """What a program says of its version."""
        return run(program, "--version").decode().split()[-1]

    def module_in(self, program, module):
        """The version of a module that is built into a program."""
        for line in run("go", "version", "-m", self.go / program).decode().splitlines():
            words = line.split()
            if words[:1] in (["mod"], ["dep"]) and words[1] == module:
                return words[2].removeprefix("v")
        raise LookupError(f"{program} has no {module}")

    def suite_names(self):
        """The names of all suites that the Connect project's runner has."""
        module = json.loads(run("go", "mod", "download", "-json", f"{CONNECT}@{CONNECT_VERSION}"))
        data = pathlib.Path(module["Dir"]) / "internal/app/connectconformance/testsuites/data"
        return [path.read_text().partition("name: ")[2].partition("\n")[0].strip() for path in data.glob("*.yaml")]


def run(*command, cwd=None, env=None):
    """What a command prints; its failure ends everything, with what it said."""
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, timeout=TIMEOUT, check=False
    )
    if done.returncode != 0:
        told = " ".join(str(word) for word in command)
        sys.exit(f"{told} exited {done.returncode}:\n{done.stderr.decode(errors='replace')}")
    return done.stdout
