// Command peerclient runs the cases that grpc-go's interop client does not have, and prints one line of JSON for each.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"adit.example/conformance/compressed"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	pb "google.golang.org/grpc/interop/grpc_testing"
)

// caseTimeout ends a case that hangs.
const caseTimeout = 180 * time.Second

var probe = flag.Bool("probe", false, "the server looks whether requests are compressed")

type caseFunc func(context.Context, pb.TestServiceClient) error

var cases = map[string]caseFunc{
	"client_compressed_unary":     clientCompressedUnary,
	"server_compressed_unary":     serverCompressedUnary,
	"server_compressed_streaming": serverCompressedStreaming,
	"concurrent_large_unary":      concurrentLargeUnary,
	"client_push_back":            clientPushBack,
	"cancel_before_start":         cancelBeforeStart,
	"large_header":                largeHeader,
	"server_replies_first":        serverRepliesFirst,
}

func main() {
	target := flag.String("target", "", "host:port of the server")
	names := flag.String("cases", "", "names of cases, with commas between them")
	flag.Parse()
	conn, err := grpc.NewClient(*target,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithStatsHandler(compressed.Handler{}))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	client := pb.NewTestServiceClient(conn)
	output := json.NewEncoder(os.Stdout)
	for _, name := range strings.Split(*names, ",") {
		run, ok := cases[name]
		if !ok {
			log.Fatalf("there is no case %q", name)
		}
		result := map[string]any{"case": name}
		if err := within(run, client); err != nil {
			result["error"] = err.Error()
		}
		if err := output.Encode(result); err != nil {
			log.Fatal(err)
		}
	}
}

func within(run caseFunc, client pb.TestServiceClient) error {
	ctx, cancel := context.WithTimeout(context.Background(), caseTimeout)
	defer cancel()
	return run(ctx, client)
}

func payload(size int) *pb.Payload {
	return &pb.Payload{Body: make([]byte, size)}
}

func expectSize(body *pb.Payload, size int) error {
	if got := len(body.GetBody()); got != size {
		return fmt.Errorf("a payload of %d bytes in place of %d", got, size)
	}
	return nil
}
