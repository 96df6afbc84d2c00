// Command nats runs a nats-server inside this process, for `mrci bench cast
// --peer` to compare a host with. It prints the address that it listens on, and
// ends with its standard input.
package main

import (
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

func main() {
	log.SetFlags(0)
	chain := flag.String("chain", "", "certificate chain in PEM; with -key, clients speak TLS")
	key := flag.String("key", "", "private key in PEM")
	pending := flag.Int64("pending", 1<<30, "bytes that may wait for one client before it is dropped")
	flag.Parse()
	if flag.NArg() > 0 {
		log.Fatalf("unexpected argument %s", flag.Arg(0))
	}
	if err := run(*chain, *key, *pending); err != nil {
		log.Fatal(err)
	}
}

// startPatience bounds how long the server may take to listen.
const startPatience = 20 * time.Second

func run(chain, key string, pending int64) error {
	opts := &server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT,
		NoSigs: true, NoLog: true,
		MaxConn: 1 << 17, MaxPayload: 1 << 20,
		// Nobody is dropped: what may be under way is bounded by who sends.
		MaxPending: pending, WriteDeadline: time.Minute,
		// No client has to answer a ping while it is measured.
		PingInterval: time.Hour, DisableShortFirstPing: true,
	}
	if chain != "" {
		pair, err := tls.LoadX509KeyPair(chain, key)
		if err != nil {
			return fmt.Errorf("load the certificate: %w", err)
		}
		opts.TLSConfig = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
		opts.TLSTimeout = startPatience.Seconds()
	}
	s, err := server.NewServer(opts)
	if err != nil {
		return err
	}
	s.Start()
	defer s.WaitForShutdown()
	defer s.Shutdown()
	if !s.ReadyForConnections(startPatience) {
		return errors.New("the server does not listen")
	}
	fmt.Printf("listening on %s\n", s.Addr())
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}
