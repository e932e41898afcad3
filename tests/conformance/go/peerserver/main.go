// Command peerserver is grpc-go's interop server and what it lacks: it looks whether requests are compressed and
// compresses responses when asked to, and sends a response before it has read any request when asked to.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"strconv"

	"adit.example/conformance/compressed"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/interop"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// replyFirst is the metadata that asks for a response of so many bytes before any request is read.
const replyFirst = "x-conformance-reply-first"

func main() {
	port := flag.Int("port", 0, "the port to listen on")
	flag.Parse()
	listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(*port)))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("listening on %v\n", listener.Addr())
	grpcServer := grpc.NewServer(grpc.StatsHandler(compressed.Handler{}))
	pb.RegisterTestServiceServer(grpcServer, &server{TestServiceServer: interop.NewTestServer()})
	log.Fatal(grpcServer.Serve(listener))
}

type server struct {
	pb.TestServiceServer
}

func (s *server) UnaryCall(ctx context.Context, request *pb.SimpleRequest) (*pb.SimpleResponse, error) {
	if err := check(ctx, request.GetExpectCompressed()); err != nil {
		return nil, err
	}
	if request.GetResponseCompressed().GetValue() {
		if err := grpc.SetSendCompressor(ctx, "gzip"); err != nil {
			return nil, err
		}
	}
	return s.TestServiceServer.UnaryCall(ctx, request)
}

func (s *server) StreamingInputCall(stream pb.TestService_StreamingInputCallServer) error {
	var sum int
	for {
		request, err := stream.Recv()
		if err == io.EOF {
			return stream.SendAndClose(&pb.StreamingInputCallResponse{AggregatedPayloadSize: int32(sum)})
		}
		if err != nil {
			return err
		}
		if err := check(stream.Context(), request.GetExpectCompressed()); err != nil {
			return err
		}
		sum += len(request.GetPayload().GetBody())
	}
}

func (s *server) FullDuplexCall(stream pb.TestService_FullDuplexCallServer) error {
	if sizes := metadata.ValueFromIncomingContext(stream.Context(), replyFirst); len(sizes) > 0 {
		size, err := strconv.Atoi(sizes[0])
		if err != nil {
			return status.Error(codes.InvalidArgument, err.Error())
		}
		payload := &pb.Payload{Body: make([]byte, size)}
		if err := stream.Send(&pb.StreamingOutputCallResponse{Payload: payload}); err != nil {
			return err
		}
	}
	return s.TestServiceServer.FullDuplexCall(stream)
}

// check fails a call whose latest request was not sent as the request itself says.
func check(ctx context.Context, expected *pb.BoolValue) error {
	if was := compressed.Last(ctx); expected != nil && expected.Value != was {
		return status.Errorf(codes.InvalidArgument, "compressed: %v, but %v is expected", was, expected.Value)
	}
	return nil
}
