package main

import (
	"context"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
)

const method = "/satellitemap.SatelliteMap/GetImages"

func with(tokens ...string) context.Context {
	return metadata.NewIncomingContext(context.Background(), metadata.MD{"token": tokens})
}

func TestTheTokenOpens(t *testing.T) {
	if err := newGuard("open sesame").check(with("open sesame"), method); err != nil {
		t.Error(err)
	}
}

func TestWithoutTheTokenNothingOpens(t *testing.T) {
	g := newGuard("open sesame")
	for _, wrong := range []string{"", "open", "open sesame ", "Open sesame", "open sesame\x00"} {
		expect(t, g.check(with(wrong), method), codes.Unauthenticated, "is not the one of this server")
	}
	expect(t, g.check(context.Background(), method), codes.Unauthenticated, "the call has 0 tokens")
	expect(t, g.check(with(), method), codes.Unauthenticated, "the call has 0 tokens")
	expect(t, g.check(with("open sesame", "open sesame"), method), codes.Unauthenticated, "the call has 2 tokens")
	for _, other := range []string{"/satellitemap.SatelliteMap/GetImage", "/grpc.healthy.v1.X/Y", "/x", ""} {
		expect(t, g.check(context.Background(), other), codes.Unauthenticated, "the call has 0 tokens")
	}
}

func TestHealthAndReflectionNeedNone(t *testing.T) {
	for _, public := range []string{
		"/grpc.health.v1.Health/Watch", "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
		"/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
	} {
		if err := newGuard("open sesame").check(context.Background(), public); err != nil {
			t.Error(err)
		}
	}
}
