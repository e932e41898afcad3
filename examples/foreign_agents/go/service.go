package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/quic-go/quic-go/http3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/encoding/gzip"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const (
	maxMessage   = 65 << 20
	echoInitial  = "x-grpc-test-echo-initial"
	echoTrailing = "x-grpc-test-echo-trailing-bin"
)

// An ordinary grpc-go server, as a handler of HTTP requests.
func grpcHandler() http.Handler {
	server := grpc.NewServer(
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxSendMsgSize(maxMessage),
		grpc.UnaryInterceptor(unary),
		grpc.StreamInterceptor(stream),
	)
	testpb.RegisterTestServiceServer(server, testService{})
	return http.HandlerFunc(func(response http.ResponseWriter, request *http.Request) {
		// grpc-go asks for HTTP/2. What it needs of it, streams and trailers, HTTP/3 has as well.
		request.ProtoMajor, request.ProtoMinor, request.Proto = 2, 0, "HTTP/2.0"
		body := &requestBody{ReadCloser: request.Body}
		request.Body = body
		server.ServeHTTP(response, request)
		if body.cancelled || request.Context().Err() != nil {
			slog.Info("call cancelled", "path", request.URL.Path)
		}
	})
}

// Knows whether the hub gave the request up. It may be the first to, before the request's context.
type requestBody struct {
	io.ReadCloser
	cancelled bool
}

func (b *requestBody) Read(into []byte) (int, error) {
	count, err := b.ReadCloser.Read(into)
	if reset, ok := errors.AsType[*http3.Error](err); ok && reset.ErrorCode == http3.ErrCodeRequestCanceled {
		b.cancelled = true
	}
	return count, err
}

// gRPC's test service, as ../proto/test_service.proto describes it.
type testService struct {
	testpb.UnimplementedTestServiceServer
}

func (testService) EmptyCall(context.Context, *testpb.Empty) (*testpb.Empty, error) {
	return &testpb.Empty{}, nil
}

func (testService) UnaryCall(_ context.Context, request *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	if err := wanted(request.ResponseStatus); err != nil {
		return nil, err
	}
	body, err := payload(request.ResponseSize)
	return &testpb.SimpleResponse{Payload: body}, err
}

func (testService) StreamingOutputCall(
	request *testpb.StreamingOutputCallRequest, call testpb.TestService_StreamingOutputCallServer,
) error {
	return answer(request, call)
}

func (testService) StreamingInputCall(call testpb.TestService_StreamingInputCallServer) error {
	size := 0
	for {
		request, err := call.Recv()
		if err == io.EOF {
			return call.SendAndClose(&testpb.StreamingInputCallResponse{AggregatedPayloadSize: int32(size)})
		}
		if err != nil {
			return err
		}
		size += len(request.Payload.GetBody())
	}
}

func (testService) FullDuplexCall(call testpb.TestService_FullDuplexCallServer) error {
	// Before there is anything to answer: the caller knows thereby that the call is here.
	if err := call.SendHeader(nil); err != nil {
		return err
	}
	for {
		request, err := call.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := wanted(request.ResponseStatus); err != nil {
			return err
		}
		if err := answer(request, call); err != nil {
			return err
		}
	}
}

// Where responses go.
type responses interface {
	Context() context.Context
	Send(*testpb.StreamingOutputCallResponse) error
}

func answer(request *testpb.StreamingOutputCallRequest, call responses) error {
	for _, wanted := range request.ResponseParameters {
		select {
		case <-time.After(time.Duration(wanted.IntervalUs) * time.Microsecond):
		case <-call.Context().Done():
			return status.FromContextError(call.Context().Err()).Err()
		}
		body, err := payload(wanted.Size)
		if err != nil {
			return err
		}
		if err := call.Send(&testpb.StreamingOutputCallResponse{Payload: body}); err != nil {
			return err
		}
	}
	return nil
}

func wanted(asked *testpb.EchoStatus) error {
	if asked.GetCode() == 0 {
		return nil
	}
	return status.Error(codes.Code(asked.Code), asked.Message)
}

func payload(size int32) (*testpb.Payload, error) {
	if size < 0 || size > maxMessage {
		return nil, status.Errorf(codes.InvalidArgument, "a payload of %d bytes", size)
	}
	return &testpb.Payload{Body: make([]byte, size)}, nil
}

func unary(ctx context.Context, request any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	initial, trailing := echoed(ctx)
	if err := grpc.SetHeader(ctx, initial); err != nil {
		return nil, err
	}
	if err := grpc.SetTrailer(ctx, trailing); err != nil {
		return nil, err
	}
	return handler(ctx, request)
}

func stream(service any, call grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	initial, trailing := echoed(call.Context())
	if err := call.SetHeader(initial); err != nil {
		return err
	}
	call.SetTrailer(trailing)
	return handler(service, call)
}

// The metadata that is sent back, in front of the messages and behind them.
func echoed(ctx context.Context) (initial, trailing metadata.MD) {
	initial, trailing = metadata.MD{}, metadata.MD{}
	initial.Append(echoInitial, metadata.ValueFromIncomingContext(ctx, echoInitial)...)
	trailing.Append(echoTrailing, metadata.ValueFromIncomingContext(ctx, echoTrailing)...)
	return initial, trailing
}
