// Calls all four kinds of method of RouteGuide and checks the answers.
//
// An ordinary grpc-go client: it knows nothing of tunnels. Through a hub, the agent is named in metadata:
//
//	route-guide-client --target 127.0.0.1:9090 --metadata adit-agent=site-1
//
// Prints one line per call. Exits 0 if all answers are right, 1 with the reason if one is not, 2 on wrong usage.
package main

//go:generate ./generate.sh

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"example.com/routeguide/pb"
)

func main() {
	target := flag.String("target", "", "`HOST:PORT` of the hub, or of the service itself")
	timeout := flag.Float64("timeout", 10, "`SECONDS` that each kind of call may take")
	sent := metadata.MD{}
	flag.Func("metadata", "`KEY=VALUE` sent with each call; may be repeated", func(text string) error {
		key, value, found := strings.Cut(text, "=")
		if !found || key == "" || value == "" {
			return fmt.Errorf("%q is not KEY=VALUE", text)
		}
		sent.Append(key, value)
		return nil
	})
	flag.Parse()
	if *target == "" || *timeout <= 0 || flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "--target is needed, a --timeout above 0, and nothing but flags")
		flag.Usage()
		os.Exit(2)
	}
	connection, err := grpc.NewClient(*target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		fmt.Fprintf(os.Stderr, "--target %s: %v\n", *target, err)
		os.Exit(2)
	}
	defer connection.Close()
	ctx := metadata.NewOutgoingContext(context.Background(), sent)
	limit := time.Duration(*timeout * float64(time.Second))
	if err := callAll(ctx, pb.NewRouteGuideClient(connection), limit, os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", *target, err)
		os.Exit(1)
	}
}

// callAll makes the calls one after the other, and tells of each that was answered rightly.
func callAll(ctx context.Context, client pb.RouteGuideClient, timeout time.Duration, out io.Writer) error {
	for _, call := range calls {
		var trailer metadata.MD
		limited, cancel := context.WithTimeout(ctx, timeout)
		begun := time.Now()
		result, err := call.make(limited, client, grpc.Trailer(&trailer))
		cancel()
		if err != nil {
			return fmt.Errorf("%s: %s", call.name, describe(err, trailer))
		}
		milliseconds := float64(time.Since(begun).Microseconds()) / 1000
		fmt.Fprintf(out, "%s: %s (%.1f ms)\n", call.name, result, milliseconds)
	}
	return nil
}

// describe tells of a status what the service, or whoever is on the way to it, has said.
func describe(err error, trailer metadata.MD) string {
	var wrong wrongAnswer
	if errors.As(err, &wrong) {
		return err.Error()
	}
	failure := status.Convert(err)
	words := []string{failure.Code().String()}
	for key, values := range trailer {
		if strings.HasPrefix(key, "adit-") {
			words = append(words, key+"="+strings.Join(values, ","))
		}
	}
	slices.Sort(words[1:])
	return strings.Join(append(words, "“"+failure.Message()+"”"), " ")
}
