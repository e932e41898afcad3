// Command descriptors writes the descriptors of the interop service, and of the ORCA service that its newer cases
// use, as a serialized FileDescriptorSet on standard output. The peers in other languages make their messages from it,
// so that all of them agree with the version of grpc-go that the suite runs, and no copy of its files is kept here.
package main

import (
	"log"
	"os"

	orca "github.com/cncf/xds/go/xds/service/orca/v3"
	testing "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

func main() {
	set := &descriptorpb.FileDescriptorSet{}
	seen := map[string]bool{}
	for _, file := range []protoreflect.FileDescriptor{
		testing.File_grpc_testing_test_proto,
		orca.File_xds_service_orca_v3_orca_proto,
	} {
		add(set, seen, file)
	}
	data, err := proto.Marshal(set)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := os.Stdout.Write(data); err != nil {
		log.Fatal(err)
	}
}

// add adds a file after those that it imports, which is the order that readers want.
func add(set *descriptorpb.FileDescriptorSet, seen map[string]bool, file protoreflect.FileDescriptor) {
	if seen[file.Path()] {
		return
	}
	seen[file.Path()] = true
	imports := file.Imports()
	for i := range imports.Len() {
		add(set, seen, imports.Get(i).FileDescriptor)
	}
	set.File = append(set.File, protodesc.ToFileDescriptorProto(file))
}
