#!/bin/sh
# Makes the stubs in pb/ from the service's definition, with plugins of the versions that go.mod names.
#
# The compiler is protoc, or what PROTOC says: "python3 -m grpc_tools.protoc" is one, too.
set -eu
cd "$(dirname "$0")"
mkdir -p pb
# Words of PROTOC are meant to be split. The .proto file names no Go package, which is why that is said here.
${PROTOC:-protoc} --proto_path=../proto \
    --plugin=protoc-gen-go="$(go tool -n protoc-gen-go)" --go_out=pb \
    --go_opt=paths=source_relative,Mroute_guide.proto=example.com/routeguide/pb \
    --plugin=protoc-gen-go-grpc="$(go tool -n protoc-gen-go-grpc)" --go-grpc_out=pb \
    --go-grpc_opt=paths=source_relative,Mroute_guide.proto=example.com/routeguide/pb \
    route_guide.proto
