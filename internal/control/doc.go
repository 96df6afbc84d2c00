// Package control is the local door of a running host: the lock that keeps a
// second host away from the same directory, the socket through which `mrci
// status`, `mrci stop` and the like talk to the host, what they say, and the
// two ways in which a service manager takes part: notifications and sockets
// that it has opened already.
//
// What the requests mean is the handler's business, and which directories
// there are is package conf's.
//
// # Order
//
// The lock is proof of being the only host, and so comes first and goes
// nearly last:
//
//	lock, err := control.Acquire(dirs.Runtime)
//	server, err := control.Listen(control.Config{Lock: lock, ...})
//	err = server.Serve(ctx, handler) // until the host has stopped
//	lock.Release()
//	server.Close() // now who waits with CallUntilEnd knows, and may start the next host
//
// A host whose data directory is not its runtime directory acquires a lock on
// both: the same data may be reached with another runtime directory, as from
// a session without XDG_RUNTIME_DIR.
//
// # Who may come in
//
// The socket has mode 0600 in a directory with mode 0700, and on Linux and
// macOS the server asks the system for the user id of each client: the host's
// own and root are served. Windows tells nothing about a client, so that there the
// rights of the directory alone decide: keep it below the account's AppData,
// which other accounts cannot enter.
//
// # On the wire
//
// One connection is one request: a line of JSON with a Request of at most
// 64 KiB, answered by a line of JSON with an Answer of at most 16 MiB, after which
// the server closes the connection, except where the Answer says hold: then the
// connection stays open until the host has ended. Members that a side does not know
// are ignored, so that an `mrci` and a host of different versions understand each other.
//
// All exported functions and methods may be used by several goroutines at once.
//
// Spec: state 7, design D10 and D11.
package control
