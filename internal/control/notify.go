package control

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

const (
	// maxStatusText is how much of a status line is sent; systemd takes 4 KiB for
	// the whole message.
	maxStatusText = 1024
	// notifyTimeout is for a service manager that does not read.
	notifyTimeout = time.Second
)

// Notifier tells a service manager how the host is, in the way of systemd's
// sd_notify. Without one its methods do nothing.
type Notifier struct {
	// Fixed after NewNotifier.
	socket   string
	watchdog time.Duration
}

// NewNotifier takes the place of the service manager from the environment:
// NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID. Processes that the host
// starts must not inherit these.
func NewNotifier(getenv func(string) string) *Notifier {
	n := &Notifier{socket: getenv("NOTIFY_SOCKET")}
	if pid := getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return n // meant for another process
	}
	// What does not fit a Duration is for ever.
	usec, err := strconv.ParseInt(getenv("WATCHDOG_USEC"), 10, 64)
	if n.socket != "" && err == nil && usec > 0 && usec <= int64((1<<63-1)/time.Microsecond) {
		n.watchdog = time.Duration(usec) * time.Microsecond
	}
	return n
}

// Watchdog returns the time without Alive after which the service manager
// takes the host for dead; 0: it does not watch. Call Alive at half of it.
func (n *Notifier) Watchdog() time.Duration { return n.watchdog }

// Alive says that the host works.
func (n *Notifier) Alive() error { return n.send("WATCHDOG=1") }

// Ready says that the host accepts connections, and also that a reload is
// over.
func (n *Notifier) Ready() error { return n.send("READY=1") }

// Reloading says that the host loads its configuration again; Ready ends that.
func (n *Notifier) Reloading() error {
	lines := "RELOADING=1"
	if usec, ok := monotonicUsec(); ok {
		lines += "\nMONOTONIC_USEC=" + strconv.FormatInt(usec, 10)
	}
	return n.send(lines)
}

// Stopping says that the host has begun to end.
func (n *Notifier) Stopping() error { return n.send("STOPPING=1") }

// Status tells people one line about the host.
func (n *Notifier) Status(text string) error {
	text = printable(text) // a line feed would begin another message
	if len(text) > maxStatusText {
		text = text[:maxStatusText]
		for !utf8.ValidString(text) { // cut within a character
			text = text[:len(text)-1]
		}
	}
	return n.send("STATUS=" + text)
}

func (n *Notifier) send(lines string) error {
	if n.socket == "" {
		return nil
	}
	if err := n.write(lines); err != nil {
		return fmt.Errorf("notify the service manager: %w", err)
	}
	return nil
}

func (n *Notifier) write(lines string) error {
	if !strings.HasPrefix(n.socket, "/") && !strings.HasPrefix(n.socket, "@") {
		return errors.New("NOTIFY_SOCKET is neither a path nor an abstract socket")
	}
	// net takes the '@' of an abstract socket as systemd means it.
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: n.socket, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetWriteDeadline(time.Now().Add(notifyTimeout)); err != nil {
		return err
	}
	_, err = c.Write([]byte(lines))
	return err
}
