package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"satellitemap/pb"
)

// A stream keeps what is sent on it.
type stream struct {
	grpc.ServerStream
	ctx  context.Context
	sent []*pb.Image
}

func (s *stream) Context() context.Context { return s.ctx }

func (s *stream) Send(image *pb.Image) error {
	s.sent = append(s.sent, image)
	return nil
}

func newService(t *testing.T, delay time.Duration) *service {
	w, err := readWorld(earth)
	if err != nil {
		t.Fatal(err)
	}
	return &service{world: w, delay: delay}
}

func at(x, y int32) *pb.Location { return &pb.Location{X: x, Y: y} }

func TestTheWholeMapIsSentRowByRow(t *testing.T) {
	stream := &stream{ctx: t.Context()}
	if err := newService(t, 0).GetImages(&pb.Area{From: at(0, 0), To: at(width-1, height-1)}, stream); err != nil {
		t.Fatal(err)
	}
	symbols := map[pb.Terrain]string{}
	for symbol, terrain := range terrains {
		symbols[terrain] = string(symbol)
	}
	var drawn strings.Builder
	for _, image := range stream.sent {
		drawn.WriteString(symbols[image.Terrain])
		if image.Location.X == width-1 {
			drawn.WriteString("\n")
		}
	}
	if drawn.String() != earth {
		t.Errorf("another world was sent:\n%s", drawn.String())
	}
}

func TestAnAreaHasBothOfItsCornersWhicheverTheyAre(t *testing.T) {
	want := []string{"10,4", "11,4", "12,4", "10,5", "11,5", "12,5"}
	for _, corners := range [][2]*pb.Location{
		{at(10, 4), at(12, 5)}, {at(12, 5), at(10, 4)}, {at(12, 4), at(10, 5)}, {at(10, 5), at(12, 4)},
	} {
		stream := &stream{ctx: t.Context()}
		if err := newService(t, 0).GetImages(&pb.Area{From: corners[0], To: corners[1]}, stream); err != nil {
			t.Fatal(err)
		}
		var sent []string
		for _, image := range stream.sent {
			sent = append(sent, fmt.Sprintf("%d,%d", image.Location.X, image.Location.Y))
		}
		if !slices.Equal(sent, want) {
			t.Errorf("from %v to %v there are %v", corners[0], corners[1], sent)
		}
	}
}

func TestWhatIsOffTheMapIsRefusedWithTheReason(t *testing.T) {
	s := newService(t, time.Hour)
	for _, bad := range []struct {
		location *pb.Location
		reason   string
	}{
		{at(80, 0), "x is 80, and the map has the columns 0 to 79"},
		{at(-1, 0), "x is -1, and the map has the columns 0 to 79"},
		{at(0, 32), "y is 32, and the map has the rows 0 to 31"},
		{at(79, -1<<31), "y is -2147483648, and the map has the rows 0 to 31"},
	} {
		_, err := s.GetImage(t.Context(), bad.location)
		expect(t, err, codes.OutOfRange, bad.reason)
		for _, area := range []*pb.Area{{From: bad.location, To: at(0, 0)}, {From: at(0, 0), To: bad.location}} {
			stream := &stream{ctx: t.Context()}
			expect(t, s.GetImages(area, stream), codes.OutOfRange, bad.reason)
			if len(stream.sent) > 0 {
				t.Errorf("images were sent before the refusal: %v", stream.sent)
			}
		}
	}
}

func TestAnAreaNeedsTwoCorners(t *testing.T) {
	for _, area := range []*pb.Area{{}, {From: at(1, 1)}, {To: at(1, 1)}} {
		err := newService(t, 0).GetImages(area, &stream{ctx: t.Context()})
		expect(t, err, codes.InvalidArgument, "the area needs two corners")
	}
}

func TestEachImageTakesTheDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun, s := time.Now(), newService(t, time.Minute)
		if _, err := s.GetImage(t.Context(), at(1, 1)); err != nil {
			t.Fatal(err)
		}
		if err := s.GetImages(&pb.Area{From: at(1, 1), To: at(5, 2)}, &stream{ctx: t.Context()}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took != 11*time.Minute {
			t.Errorf("11 images took %v", took)
		}
	})
}

func TestADeadlineEndsAStreamBetweenImages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 210*time.Second)
		defer cancel()
		begun, stream := time.Now(), &stream{ctx: ctx}
		err := newService(t, time.Minute).GetImages(&pb.Area{From: at(0, 0), To: at(79, 31)}, stream)
		expect(t, err, codes.DeadlineExceeded, "deadline exceeded")
		if took := time.Since(begun); took != 210*time.Second || len(stream.sent) != 3 {
			t.Errorf("%d images were sent in %v", len(stream.sent), took)
		}
	})
}

func TestACancelledCallTakesNoMoreImages(t *testing.T) {
	for _, delay := range []time.Duration{0, time.Hour} {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		stream := &stream{ctx: ctx}
		expect(t, newService(t, delay).GetImages(&pb.Area{From: at(0, 0), To: at(9, 9)}, stream), codes.Canceled, "")
		_, err := newService(t, delay).GetImage(ctx, at(0, 0))
		expect(t, err, codes.Canceled, "")
		if len(stream.sent) > 0 {
			t.Errorf("%d images were sent", len(stream.sent))
		}
	}
}

func TestAnErrorOfTheStreamIsPassedOn(t *testing.T) {
	refused := status.Error(codes.Unavailable, "transport is closing")
	if err := endedEarly(t.Context(), "GetImages", 1, 2, refused); !errors.Is(err, refused) {
		t.Errorf("%v", err)
	}
	expect(t, endedEarly(t.Context(), "GetImages", 1, 2, io.ErrUnexpectedEOF), codes.Unknown, "unexpected EOF")
}

func expect(t *testing.T, err error, code codes.Code, reason string) {
	t.Helper()
	if status.Code(err) != code || !strings.Contains(status.Convert(err).Message(), reason) {
		t.Errorf("%v should be %v: %s", err, code, reason)
	}
}
