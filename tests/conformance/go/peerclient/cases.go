package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"adit.example/conformance/compressed"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding/gzip"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const (
	largeRequest  = 271828
	largeResponse = 314159
	concurrent    = 1000

	headerKey  = "x-grpc-test-echo-initial"
	headerSize = 63 << 10

	replyFirst = "x-conformance-reply-first"

	// What a server that does not read for pushPause may be sent meanwhile at the most, of pushCount messages: the
	// windows of every hop on the way are far below it.
	pushPause   = 2 * time.Second
	pushMessage = 64 << 10
	pushCount   = 768
	pushLimit   = 24 << 20
	// For so long nothing is sent meanwhile.
	pushStill = 500 * time.Millisecond
)

func largeUnary(ctx context.Context, client pb.TestServiceClient, options ...grpc.CallOption) error {
	request := &pb.SimpleRequest{ResponseSize: largeResponse, Payload: payload(largeRequest)}
	response, err := client.UnaryCall(ctx, request, options...)
	if err != nil {
		return err
	}
	return expectSize(response.Payload, largeResponse)
}

func clientCompressedUnary(ctx context.Context, client pb.TestServiceClient) error {
	call := func(expected bool, options ...grpc.CallOption) error {
		response, err := client.UnaryCall(ctx, &pb.SimpleRequest{
			ExpectCompressed: &pb.BoolValue{Value: expected},
			ResponseSize:     largeResponse,
			Payload:          payload(largeRequest),
		}, options...)
		if err != nil {
			return err
		}
		return expectSize(response.Payload, largeResponse)
	}
	if *probe {
		if err := call(true); status.Code(err) != codes.InvalidArgument {
			return fmt.Errorf("the probe: %v", err)
		}
	}
	return errors.Join(call(true, grpc.UseCompressor(gzip.Name)), call(false))
}

func serverCompressedUnary(ctx context.Context, client pb.TestServiceClient) error {
	for _, wanted := range []bool{true, false} {
		ctx, flags := compressed.Collect(ctx)
		response, err := client.UnaryCall(ctx, &pb.SimpleRequest{
			ResponseCompressed: &pb.BoolValue{Value: wanted},
			ResponseSize:       largeResponse,
			Payload:            payload(largeRequest),
		})
		if err != nil {
			return err
		}
		if err := expectSize(response.Payload, largeResponse); err != nil {
			return err
		}
		if got := flags.All(); !slices.Equal(got, []bool{wanted}) {
			return fmt.Errorf("compressed: %v in place of %v", got, wanted)
		}
	}
	return nil
}

func serverCompressedStreaming(ctx context.Context, client pb.TestServiceClient) error {
	ctx, flags := compressed.Collect(ctx)
	sizes := []int{31415, 92653}
	stream, err := client.StreamingOutputCall(ctx, &pb.StreamingOutputCallRequest{
		ResponseParameters: []*pb.ResponseParameters{
			{Compressed: &pb.BoolValue{Value: true}, Size: int32(sizes[0])},
			{Compressed: &pb.BoolValue{Value: false}, Size: int32(sizes[1])},
		},
	})
	if err != nil {
		return err
	}
	for _, size := range sizes {
		response, err := stream.Recv()
		if err != nil {
			return err
		}
		if err := expectSize(response.Payload, size); err != nil {
			return err
		}
	}
	if _, err := stream.Recv(); err != io.EOF {
		return fmt.Errorf("%v in place of the end", err)
	}
	if got := flags.All(); !slices.Equal(got, []bool{true, false}) {
		return fmt.Errorf("compressed: %v", got)
	}
	return nil
}

func concurrentLargeUnary(ctx context.Context, client pb.TestServiceClient) error {
	errs := make([]error, concurrent)
	var calls sync.WaitGroup
	for i := range errs {
		calls.Add(1)
		go func() {
			defer calls.Done()
			errs[i] = largeUnary(ctx, client)
		}()
	}
	calls.Wait()
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	if len(errs) > 0 {
		return fmt.Errorf("%d of %d calls failed, the first with: %w", len(errs), concurrent, errs[0])
	}
	return nil
}

func clientPushBack(ctx context.Context, client pb.TestServiceClient) error {
	stream, err := client.FullDuplexCall(ctx)
	if err != nil {
		return err
	}
	pause := &pb.ResponseParameters{Size: 1, IntervalUs: int32(pushPause.Microseconds())}
	if err := stream.Send(request(pause, 0)); err != nil {
		return err
	}
	var sent atomic.Int64
	var longest time.Duration
	var sendErr error
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range pushCount {
			begun := time.Now()
			if sendErr = stream.Send(request(nil, pushMessage)); sendErr != nil {
				return
			}
			sent.Add(pushMessage)
			longest = max(longest, time.Since(begun))
		}
		if sendErr = stream.Send(request(&pb.ResponseParameters{Size: 9}, 0)); sendErr == nil {
			sendErr = stream.CloseSend()
		}
	}()
	response, err := stream.Recv()
	if err != nil {
		return err
	}
	held := sent.Load()
	if err := expectSize(response.Payload, 1); err != nil {
		return err
	}
	if response, err = stream.Recv(); err != nil {
		return err
	}
	if err := expectSize(response.Payload, 9); err != nil {
		return err
	}
	if _, err := stream.Recv(); err != io.EOF {
		return fmt.Errorf("%v in place of the end", err)
	}
	if <-done; sendErr != nil {
		return sendErr
	}
	if held > pushLimit || longest < pushStill {
		return fmt.Errorf("a server that did not read was sent %d bytes; the longest wait was %v", held, longest)
	}
	return nil
}

func request(parameters *pb.ResponseParameters, size int) *pb.StreamingOutputCallRequest {
	request := &pb.StreamingOutputCallRequest{Payload: payload(size)}
	if parameters != nil {
		request.ResponseParameters = []*pb.ResponseParameters{parameters}
	}
	return request
}

func cancelBeforeStart(ctx context.Context, client pb.TestServiceClient) error {
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	if err := largeUnary(canceled, client); status.Code(err) != codes.Canceled {
		return fmt.Errorf("%v in place of Canceled", err)
	}
	_, err := client.EmptyCall(ctx, &pb.Empty{})
	return err
}

func largeHeader(ctx context.Context, client pb.TestServiceClient) error {
	value := strings.Repeat("X", headerSize)
	var header metadata.MD
	ctx = metadata.AppendToOutgoingContext(ctx, headerKey, value)
	if err := largeUnary(ctx, client, grpc.Header(&header)); err != nil {
		return err
	}
	if got := header.Get(headerKey); !slices.Equal(got, []string{value}) {
		return fmt.Errorf("%d values came back, of %d bytes in all", len(got), len(strings.Join(got, "")))
	}
	return nil
}

func serverRepliesFirst(ctx context.Context, client pb.TestServiceClient) error {
	ctx = metadata.AppendToOutgoingContext(ctx, replyFirst, "31415")
	stream, err := client.FullDuplexCall(ctx)
	if err != nil {
		return err
	}
	response, err := stream.Recv()
	if err != nil {
		return err
	}
	if err := expectSize(response.Payload, 31415); err != nil {
		return err
	}
	if err := stream.Send(request(&pb.ResponseParameters{Size: 9}, 8)); err != nil {
		return err
	}
	if response, err = stream.Recv(); err != nil {
		return err
	}
	if err := expectSize(response.Payload, 9); err != nil {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	if _, err := stream.Recv(); err != io.EOF {
		return fmt.Errorf("%v in place of the end", err)
	}
	return nil
}
