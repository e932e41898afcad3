// Satellite-map-server serves images of an 80×32 map of the Earth, with mutual TLS and a token.
//
// It prints its address when it serves, logs each call that ends before its last image, and stops on SIGINT and
// SIGTERM, once running calls have ended or after five seconds.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"

	"satellitemap/pb"
)

//go:generate ./generate.sh

const (
	// For calls that still run when the server is told to stop.
	grace = 5 * time.Second
	// For a client's TLS handshake and its first HTTP/2 frames.
	handshakeTimeout = 10 * time.Second
	// Calls at once on one connection.
	maxCalls = 1000
)

type options struct {
	listen, ca, cert, key, tokenFile string
	delay                            time.Duration
}

func main() {
	if err := run(parseFlags()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func parseFlags() options {
	var o options
	flag.StringVar(&o.listen, "listen", "localhost:50052", "`address` to listen on")
	flag.StringVar(&o.ca, "ca", "", "the CA of clients' certificates, a PEM `file`")
	flag.StringVar(&o.cert, "cert", "", "the server's certificate, a PEM `file`")
	flag.StringVar(&o.key, "key", "", "its private key, a PEM `file`")
	flag.StringVar(&o.tokenFile, "token-file", "", "`file` with the token that calls have to carry")
	flag.DurationVar(&o.delay, "delay", 0, "how long each image takes, as in 50ms")
	flag.Parse()
	if flag.NArg() > 0 || o.ca == "" || o.cert == "" || o.key == "" || o.tokenFile == "" || o.delay < 0 {
		fmt.Fprintln(flag.CommandLine.Output(), "-ca, -cert, -key and -token-file are needed, and no other arguments; a delay is not negative")
		flag.Usage()
		os.Exit(2)
	}
	return o
}

func run(o options) error {
	server, err := newServer(o)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", o.listen)
	if err != nil {
		return fmt.Errorf("cannot listen on %s: %w", o.listen, err)
	}
	told, forget := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer forget()
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	fmt.Println("listening on", listener.Addr())

	select {
	case err := <-served:
		return fmt.Errorf("cannot serve on %s: %w", listener.Addr(), err)
	case <-told.Done():
	}
	// Ends the calls that run then, and with them the graceful stop.
	defer time.AfterFunc(grace, server.Stop).Stop()
	server.GracefulStop()
	return <-served
}

// newServer makes a server that serves nobody yet.
func newServer(o options) (*grpc.Server, error) {
	token, err := os.ReadFile(o.tokenFile)
	if err != nil {
		return nil, fmt.Errorf("cannot read the token: %w", err)
	}
	secret := strings.TrimSpace(string(token))
	if secret == "" {
		return nil, fmt.Errorf("the token file %s is empty: anybody could call", o.tokenFile)
	}
	mutual, err := mutualTLS(o.ca, o.cert, o.key)
	if err != nil {
		return nil, err
	}
	earth, err := readWorld(earth)
	if err != nil {
		return nil, err
	}
	server := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(mutual)),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.MaxConcurrentStreams(maxCalls),
		grpc.UnaryInterceptor(newGuard(secret).unary),
		grpc.StreamInterceptor(newGuard(secret).stream),
	)
	pb.RegisterSatelliteMapServer(server, &service{world: earth, delay: o.delay})
	state := health.NewServer()
	state.SetServingStatus(pb.SatelliteMap_ServiceDesc.ServiceName, grpc_health_v1.HealthCheckResponse_SERVING)
	grpc_health_v1.RegisterHealthServer(server, state)
	reflection.Register(server)
	return server, nil
}

// mutualTLS shows the certificate, and demands one of the CA from every client.
func mutualTLS(ca, cert, key string) (*tls.Config, error) {
	own, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("cannot use the certificate %s with the key %s: %w", cert, key, err)
	}
	text, err := os.ReadFile(ca)
	if err != nil {
		return nil, fmt.Errorf("cannot read the CA: %w", err)
	}
	clients := x509.NewCertPool()
	if !clients.AppendCertsFromPEM(text) {
		return nil, errors.New("the CA " + ca + " has no certificate in it")
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{own},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    clients,
	}, nil
}
