// Package compressed tells whether the messages of a call arrived compressed, which grpc-go tells nobody but its
// statistics.
package compressed

import (
	"context"
	"sync"

	"google.golang.org/grpc/stats"
)

// Handler notes it for each call of a client or a server.
type Handler struct{}

type key struct{}

// Flags are those of the messages that arrived in a call, in their order.
type Flags struct {
	mu    sync.Mutex
	flags []bool
}

// Collect gives a context whose calls note their flags in the returned value.
func Collect(ctx context.Context) (context.Context, *Flags) {
	flags := &Flags{}
	return context.WithValue(ctx, key{}, flags), flags
}

// All returns the flags.
func (f *Flags) All() []bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]bool(nil), f.flags...)
}

// Last says whether the latest message of this call was compressed.
func Last(ctx context.Context) bool {
	flags, ok := ctx.Value(key{}).(*Flags)
	if !ok {
		return false
	}
	all := flags.All()
	return len(all) > 0 && all[len(all)-1]
}

// TagRPC makes room for the flags, unless the caller wants to see them.
func (Handler) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context {
	if ctx.Value(key{}) == nil {
		ctx, _ = Collect(ctx)
	}
	return ctx
}

// HandleRPC notes the flag of a message that arrives. All that is sent compressed here becomes shorter by it.
func (Handler) HandleRPC(ctx context.Context, event stats.RPCStats) {
	if in, ok := event.(*stats.InPayload); ok {
		flags := ctx.Value(key{}).(*Flags)
		flags.mu.Lock()
		defer flags.mu.Unlock()
		flags.flags = append(flags.flags, in.CompressedLength != in.Length)
	}
}

// TagConn does nothing.
func (Handler) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn does nothing.
func (Handler) HandleConn(context.Context, stats.ConnStats) {}
