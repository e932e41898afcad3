package main

import (
	"context"
	"log/slog"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"satellitemap/pb"
)

// A service takes images of a world. An image takes it some time.
type service struct {
	pb.UnimplementedSatelliteMapServer
	world *world
	delay time.Duration
}

func (s *service) GetImage(ctx context.Context, location *pb.Location) (*pb.Image, error) {
	if err := onMap(location); err != nil {
		return nil, status.Error(codes.OutOfRange, err.Error())
	}
	if err := s.turnTo(ctx); err != nil {
		return nil, endedEarly(ctx, "GetImage", 0, 1, err)
	}
	return s.world.image(location), nil
}

func (s *service) GetImages(area *pb.Area, stream grpc.ServerStreamingServer[pb.Image]) error {
	if area.GetFrom() == nil || area.GetTo() == nil {
		return status.Error(codes.InvalidArgument, "the area needs two corners, from and to")
	}
	for _, corner := range []*pb.Location{area.GetFrom(), area.GetTo()} {
		if err := onMap(corner); err != nil {
			return status.Error(codes.OutOfRange, err.Error())
		}
	}
	left, right := ordered(area.GetFrom().GetX(), area.GetTo().GetX())
	top, bottom := ordered(area.GetFrom().GetY(), area.GetTo().GetY())
	all, sent := int(right-left+1)*int(bottom-top+1), 0
	for y := top; y <= bottom; y++ {
		for x := left; x <= right; x++ {
			err := s.turnTo(stream.Context())
			if err == nil {
				err = stream.Send(s.world.image(&pb.Location{X: x, Y: y}))
			}
			if err != nil {
				return endedEarly(stream.Context(), "GetImages", sent, all, err)
			}
			sent++
		}
	}
	return nil
}

// turnTo waits until the satellite looks where it should, unless the call ends before.
func (s *service) turnTo(ctx context.Context) error {
	if s.delay == 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(s.delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// endedEarly notes that a call was over before its last image, and gives the call's status. What its client had told of
// a deadline is noted too: whether a client gave up or ran out of time is not always to be seen from the error.
func endedEarly(ctx context.Context, method string, sent, all int, err error) error {
	left := "forever"
	if deadline, told := ctx.Deadline(); told {
		left = time.Until(deadline).Round(time.Millisecond).String()
	}
	slog.Info("a call ended early", "method", method, "sent", sent, "of", all, "left", left, "why", err)
	if _, is := status.FromError(err); is {
		return err
	}
	return status.FromContextError(err).Err()
}

func ordered(a, b int32) (int32, int32) {
	return min(a, b), max(a, b)
}
