package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"example.com/routeguide/pb"
)

// Only a failure waits it out, but for the test of a call that has no answer.
const patience = 30 * time.Second

// guide is a service that answers as RouteGuide does, as far as the client asks. A test changes what it needs.
type guide struct {
	pb.UnimplementedRouteGuideServer
	features []string
	summary  pb.RouteSummary
	// Whether answers in a chat wait for its end.
	holdBack bool
	// What the answers of a chat begin with, and what is said after the last one.
	greeting string
	farewell string
	nowhere  string
	refusal  error
	// What came with the last call.
	metadata metadata.MD
}

func goodGuide() *guide {
	return &guide{
		features: strings.Split("Birch Crossing,Birch Dam,Birch Ford,Cedar Crossing,Cedar Dam,Cedar Ford", ","),
		summary:  pb.RouteSummary{FeatureCount: 10, Distance: 100_076},
		refusal:  status.Error(codes.InvalidArgument, "latitude 910000000 is not on Earth"),
	}
}

func (g *guide) GetFeature(ctx context.Context, at *pb.Point) (*pb.Feature, error) {
	g.metadata, _ = metadata.FromIncomingContext(ctx)
	switch {
	case at.GetLatitude() > 90*degree:
		return &pb.Feature{}, g.refusal
	case at.GetLatitude() == 405_000_000 && at.GetLongitude() == -745_000_000:
		return &pb.Feature{Name: "Elm Harbor"}, nil
	}
	return &pb.Feature{Name: g.nowhere}, nil
}

func (g *guide) ListFeatures(_ *pb.Rectangle, to grpc.ServerStreamingServer[pb.Feature]) error {
	for _, name := range g.features {
		if err := to.Send(&pb.Feature{Name: name}); err != nil {
			return err
		}
	}
	return nil
}

func (g *guide) RecordRoute(from grpc.ClientStreamingServer[pb.Point, pb.RouteSummary]) error {
	summary := pb.RouteSummary{
		PointCount: g.summary.PointCount, FeatureCount: g.summary.FeatureCount, Distance: g.summary.Distance,
	}
	for {
		_, err := from.Recv()
		if err == io.EOF {
			return from.SendAndClose(&summary)
		}
		if err != nil {
			return err
		}
		summary.PointCount++
	}
}

func (g *guide) RouteChat(chat grpc.BidiStreamingServer[pb.RouteNote, pb.RouteNote]) error {
	var notes, held []*pb.RouteNote
	for {
		note, err := chat.Recv()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		held = append(held, notes...)
		notes = append(notes, &pb.RouteNote{Location: note.GetLocation(), Message: g.greeting + note.GetMessage()})
		for !g.holdBack && len(held) > 0 {
			if err := chat.Send(held[0]); err != nil {
				return err
			}
			held = held[1:]
		}
	}
	if g.farewell != "" {
		held = append(held, &pb.RouteNote{Message: g.farewell})
	}
	for _, note := range held {
		if err := chat.Send(note); err != nil {
			return err
		}
	}
	return nil
}

// call runs the client against a service, and gives what it printed.
func call(t *testing.T, service *guide, timeout time.Duration, sent metadata.MD) (string, error) {
	t.Helper()
	listener := bufconn.Listen(64 * 1024)
	server := grpc.NewServer()
	pb.RegisterRouteGuideServer(server, service)
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	dial := func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }
	connection, err := grpc.NewClient("passthrough:guide", grpc.WithContextDialer(dial),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { connection.Close() })
	var out bytes.Buffer
	err = callAll(metadata.NewOutgoingContext(t.Context(), sent), pb.NewRouteGuideClient(connection), timeout, &out)
	return out.String(), err
}

func TestRightAnswers(t *testing.T) {
	service := goodGuide()
	out, err := call(t, service, patience, metadata.Pairs("adit-agent", "site-1"))
	if err != nil {
		t.Fatal(err)
	}
	if lines := strings.Count(out, "\n"); lines != len(calls) {
		t.Errorf("%d lines for %d calls: %s", lines, len(calls), out)
	}
	if found := service.metadata.Get("adit-agent"); len(found) != 1 || found[0] != "site-1" {
		t.Errorf("the service got this metadata: %v", service.metadata)
	}
}

func TestWrongAnswersAreNamed(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*guide)
		words  []string
	}{
		"something nowhere": {func(g *guide) { g.nowhere = "Nowhere" }, []string{"GetFeature: ", "Nowhere"}},
		"a feature too few": {func(g *guide) { g.features = g.features[1:] }, []string{"ListFeatures: ", "Birch Crossing"}},
		"another order":     {func(g *guide) { g.features[0], g.features[1] = g.features[1], g.features[0] }, []string{"ListFeatures: "}},
		"a point too many":  {func(g *guide) { g.summary.PointCount = 1 }, []string{"RecordRoute: ", "“91”", "“92”"}},
		"no features":       {func(g *guide) { g.summary.FeatureCount = 0 }, []string{"RecordRoute: ", "“10”", "“0”"}},
		"a long way":        {func(g *guide) { g.summary.Distance = 101_000 }, []string{"RecordRoute: ", "kilometres", "“101”"}},
		"other notes":       {func(g *guide) { g.greeting = "the " }, []string{"RouteChat: ", "second note", "“the first”"}},
		"a note too many":   {func(g *guide) { g.farewell = "bye" }, []string{"RouteChat: ", "bye", "the end"}},
		"no refusal":        {func(g *guide) { g.refusal = nil }, []string{"refused: ", "not on Earth"}},
		"a vague refusal": {
			func(g *guide) { g.refusal = status.Error(codes.InvalidArgument, "no") }, []string{"refused: ", "910000000"},
		},
		"another refusal": {
			func(g *guide) { g.refusal = status.Error(codes.Internal, "broken") }, []string{"refused: Internal “broken”"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			service := goodGuide()
			test.change(service)
			_, err := call(t, service, patience, nil)
			if err == nil {
				t.Fatal("the client took it")
			}
			for _, word := range test.words {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("%q is not in: %v", word, err)
				}
			}
		})
	}
}

// Whoever holds back answers until the end of the requests is found out by the first call that has none.
func TestHeldBackAnswersAreNotWaitedForLonger(t *testing.T) {
	service := goodGuide()
	service.holdBack = true
	_, err := call(t, service, 500*time.Millisecond, nil)
	if err == nil || !strings.Contains(err.Error(), "RouteChat: DeadlineExceeded") {
		t.Fatalf("the client said: %v", err)
	}
}

func TestAFailureTellsWhoMadeItAndWhy(t *testing.T) {
	trailer := metadata.Pairs("adit-delivered", "no", "adit-error", "agent-offline", "date", "today")
	told := describe(status.Error(codes.Unavailable, "agent site-1 is not connected"), trailer)
	expected := "Unavailable adit-delivered=no adit-error=agent-offline “agent site-1 is not connected”"
	if told != expected {
		t.Errorf("told %s, not %s", told, expected)
	}
}
