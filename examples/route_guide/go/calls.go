package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"example.com/routeguide/pb"
)

// A degree in the service's units.
const degree = 10_000_000

// calls are all kinds of method, each with what it is to be answered.
var calls = []struct {
	name string
	make func(context.Context, pb.RouteGuideClient, ...grpc.CallOption) (string, error)
}{
	{"GetFeature", getFeature},
	{"ListFeatures", listFeatures},
	{"RecordRoute", recordRoute},
	{"RouteChat", routeChat},
	{"GetFeature, refused", refusedPoint},
}

// wrongAnswer is an answer that is not the one expected.
type wrongAnswer string

func (wrong wrongAnswer) Error() string { return string(wrong) }

// One request, one response.
func getFeature(ctx context.Context, client pb.RouteGuideClient, options ...grpc.CallOption) (string, error) {
	feature, err := client.GetFeature(ctx, point(40.5, -74.5), options...)
	if err != nil {
		return "", err
	}
	nothing, err := client.GetFeature(ctx, point(0, 0), options...)
	if err != nil {
		return "", err
	}
	if err := expect("the name of the feature", feature.GetName(), "Elm Harbor"); err != nil {
		return "", err
	}
	return feature.GetName(), expect("the name of nothing", nothing.GetName(), "")
}

// One request, a stream of responses.
func listFeatures(ctx context.Context, client pb.RouteGuideClient, options ...grpc.CallOption) (string, error) {
	rectangle := &pb.Rectangle{Lo: point(40.2, -74.8), Hi: point(40.3, -74.6)}
	features, err := client.ListFeatures(ctx, rectangle, options...)
	if err != nil {
		return "", err
	}
	var names []string
	for {
		feature, err := features.Recv()
		if err == io.EOF {
			break
		}
		if err != nil {
			return "", err
		}
		names = append(names, feature.GetName())
	}
	var expected []string
	for _, first := range []string{"Birch", "Cedar"} {
		for _, second := range []string{"Crossing", "Dam", "Ford"} {
			expected = append(expected, first+" "+second)
		}
	}
	if !slices.Equal(names, expected) {
		return "", wrong("the features", strings.Join(names, ", "), strings.Join(expected, ", "))
	}
	return fmt.Sprintf("%d features", len(names)), nil
}

// A stream of requests, one response.
func recordRoute(ctx context.Context, client pb.RouteGuideClient, options ...grpc.CallOption) (string, error) {
	route, err := client.RecordRoute(ctx, options...)
	if err != nil {
		return "", err
	}
	// Up a meridian in hundredths of a degree; every tenth point is a place.
	for step := range 91 {
		// EOF says that the service has answered early: what, the response tells.
		if err := route.Send(point(40.1+float64(step)/100, -74.9)); err != nil && err != io.EOF {
			return "", err
		}
	}
	summary, err := route.CloseAndRecv()
	if err != nil {
		return "", err
	}
	if err := expect("the points", summary.GetPointCount(), 91); err != nil {
		return "", err
	}
	if err := expect("the features", summary.GetFeatureCount(), 10); err != nil {
		return "", err
	}
	// 0.9 of a degree, whose length is known to a few metres.
	kilometres := math.Round(float64(summary.GetDistance()) / 1000)
	result := fmt.Sprintf("%d points, %d features, %d m", summary.GetPointCount(), summary.GetFeatureCount(), summary.GetDistance())
	return result, expect("the kilometres of route, rounded", kilometres, 100)
}

// A stream of requests and a stream of responses at the same time.
func routeChat(ctx context.Context, client pb.RouteGuideClient, options ...grpc.CallOption) (string, error) {
	chat, err := client.RouteChat(ctx, options...)
	if err != nil {
		return "", err
	}
	// A place of our own, so that what others left does not matter.
	place := &pb.Point{Latitude: within(90), Longitude: within(180)}
	var sent []string
	for _, message := range []string{"first", "second", "third"} {
		if err := chat.Send(&pb.RouteNote{Location: place, Message: message}); err != nil && err != io.EOF {
			return "", err
		}
		// Each answer is awaited before the next request: nothing on the way may hold them back.
		for _, earlier := range sent {
			note, err := chat.Recv()
			if err == io.EOF {
				return "", wrong("the answer to the "+message+" note", "the end", earlier)
			}
			if err != nil {
				return "", err
			}
			if err := expect("the answer to the "+message+" note", note.GetMessage(), earlier); err != nil {
				return "", err
			}
		}
		sent = append(sent, message)
	}
	if err := chat.CloseSend(); err != nil {
		return "", err
	}
	if note, err := chat.Recv(); err == nil {
		return "", wrong("what follows the last answer", note.GetMessage(), "the end")
	} else if err != io.EOF {
		return "", err
	}
	return fmt.Sprintf("%d notes, each answered before the next", len(sent)), nil
}

// The service's own error, as it made it.
func refusedPoint(ctx context.Context, client pb.RouteGuideClient, options ...grpc.CallOption) (string, error) {
	_, err := client.GetFeature(ctx, &pb.Point{Latitude: 91 * degree}, options...)
	refusal, isStatus := status.FromError(err)
	if err == nil || !isStatus {
		return "", wrong("the answer to a point that is not on Earth", fmt.Sprint(err), "a refusal")
	}
	if refusal.Code() != codes.InvalidArgument {
		return "", err
	}
	if !strings.Contains(refusal.Message(), "910000000") {
		return "", wrong("the message", refusal.Message(), "one that names the latitude, 910000000")
	}
	return refusal.Code().String(), nil
}

func point(latitude, longitude float64) *pb.Point {
	return &pb.Point{
		Latitude:  int32(math.Round(latitude * degree)),
		Longitude: int32(math.Round(longitude * degree)),
	}
}

// within gives a random angle of so many degrees at the most.
func within(degrees int64) int32 {
	return int32(rand.Int64N(2*degrees*degree+1) - degrees*degree)
}

func expect[T comparable](what string, found, expected T) error {
	if found != expected {
		return wrong(what, fmt.Sprint(found), fmt.Sprint(expected))
	}
	return nil
}

func wrong(what, found, expected string) error {
	return wrongAnswer(fmt.Sprintf("%s should be “%s” and is “%s”", what, expected, found))
}
