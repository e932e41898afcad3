// An agent without a line of adit's code: Go, quic-go's HTTP/3 server on a connection that it dialled, and an ordinary
// grpc-go service behind it.
//
//	go run . -hub 127.0.0.1:4433 -certs adit-certs -id go-1
//
// It dials the hub, says who it is by its certificate, serves grpc.testing.TestService to the hub's requests, and dials
// again when the link ends. SIGTERM and SIGINT drain it.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
)

// HTTP/3 with its roles swapped after the handshake (draft-thomson-ptth-potato).
const alpn = "rh3"

const (
	// Calls at once: streams that the hub may open.
	maxCalls = 4096
	// The longest header section that is taken.
	maxHeaderBytes = 128 << 10
	// An expired NAT mapping opens from inside only, and the hub gives an idle link 30 s.
	keepAlive   = 10 * time.Second
	idleTimeout = 30 * time.Second
	// What calls have when the agent stops.
	drainTimeout = 30 * time.Second
	// The wait between two tries is drawn from below the first of these, which doubles up to the second.
	minBackoff, maxBackoff = 500 * time.Millisecond, 10 * time.Second
)

func main() {
	hub := flag.String("hub", "127.0.0.1:4433", "HOST:PORT of the hub's port for agents")
	certs := flag.String("certs", "adit-certs", "where ca.pem, agent-ID.pem and agent-ID.key are")
	id := flag.String("id", "", "the agent's id")
	flag.Parse()
	config, err := tlsConfig(*certs, *id, *hub)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	run(ctx, *hub, config)
}

// Keeps a link to the hub until ctx is done.
func run(ctx context.Context, hub string, config *tls.Config) {
	server := &http3.Server{Handler: grpcHandler(), MaxHeaderBytes: maxHeaderBytes}
	backoff := minBackoff
	for ctx.Err() == nil {
		begun := time.Now()
		err := link(ctx, hub, config, server)
		if ctx.Err() != nil {
			return
		}
		slog.Warn("no link to the hub", "hub", hub, "error", err)
		if time.Since(begun) > maxBackoff {
			backoff = minBackoff
		}
		select {
		case <-ctx.Done():
		case <-time.After(rand.N(backoff)):
		}
		backoff = min(2*backoff, maxBackoff)
	}
}

// Follows one link from its handshake to its end. When ctx is done it is drained.
func link(ctx context.Context, hub string, config *tls.Config, server *http3.Server) error {
	address, err := net.ResolveUDPAddr("udp", hub)
	if err != nil {
		return err
	}
	socket, err := net.ListenUDP("udp", nil)
	if err != nil {
		return err
	}
	defer socket.Close()
	// quic.DialAddr has connection ids of no length, with which quic-go can't tell a stateless reset: the agent would
	// find out that its hub was restarted by its idle timeout only.
	transport := &quic.Transport{Conn: socket}
	defer transport.Close()
	conn, err := transport.Dial(ctx, address, config, &quic.Config{
		MaxIncomingStreams: maxCalls,
		KeepAlivePeriod:    keepAlive,
		MaxIdleTimeout:     idleTimeout,
	})
	if err != nil {
		return err
	}
	slog.Info("connected to the hub", "hub", hub)
	ended := make(chan error, 1)
	// The whole of the trick: an HTTP/3 server doesn't mind who dialled. It accepts the streams that its peer opens.
	go func() { ended <- server.ServeQUICConn(conn) }()
	select {
	case <-ended:
		return context.Cause(conn.Context())
	case <-ctx.Done():
	}
	slog.Info("draining")
	deadline, cancel := context.WithTimeout(context.Background(), drainTimeout)
	defer cancel()
	// Says GOAWAY and refuses what comes nevertheless. The hub closes the link after the last call.
	if err := server.Shutdown(deadline); err != nil {
		slog.Warn("calls are cut off", "error", err)
	}
	return <-ended
}

// TLS both ways: the hub has the name that is dialled, the agent its id, and one CA has signed both.
func tlsConfig(folder, id, hub string) (*tls.Config, error) {
	name, _, err := net.SplitHostPort(hub)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(folder, "ca.pem")
	ca, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, errors.New(file + " has no certificate")
	}
	own := filepath.Join(folder, "agent-"+id)
	certificate, err := tls.LoadX509KeyPair(own+".pem", own+".key")
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		NextProtos:   []string{alpn},
		ServerName:   name,
		RootCAs:      roots,
		Certificates: []tls.Certificate{certificate},
	}, nil
}
