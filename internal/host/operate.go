package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/bus"
	"mrci.dev/mrci/internal/control"
	"mrci.dev/mrci/wire"
)

// The requests that a running host answers on its control socket (state 7).
const (
	RequestStatus       = "status"       // Data: control.Status
	RequestStop         = "stop"         // holds the connection until the host has ended
	RequestReload       = "reload"       // configuration and certificates
	RequestCertificates = "certificates" // only those
	RequestListen       = "listen"       // ADDR:PORT: listen there from now on
	RequestAccount      = "account"      // NAME: somebody has changed the account in the database
)

// operate answers a request of the administrator of this machine.
func (h *Host) operate(ctx context.Context, r control.Request) control.Answer {
	want := map[string]int{RequestListen: 1, RequestAccount: 1}[r.Command]
	if len(r.Args) != want {
		return control.Fail(fmt.Sprintf("%s takes %d arguments, not %d", r.Command, want, len(r.Args)))
	}
	switch r.Command {
	case RequestStatus:
		return h.answerStatus()
	case RequestStop:
		h.log.Info("stop asked for", "by", "control socket")
		h.stop()
		return control.Answer{Hold: true}
	case RequestReload:
		return answer(h.Reload(ctx))
	case RequestCertificates:
		return answer(h.ReloadCertificates())
	case RequestListen:
		if err := h.Listen(ctx, r.Args[0]); err != nil {
			return control.Fail(err.Error())
		}
		return control.Answer{Text: fmt.Sprintf("listening on %s\n", h.Addr())}
	case RequestAccount:
		return h.accountChanged(ctx, r.Args[0])
	}
	return control.Fail(fmt.Sprintf("this host does not know the request %q; use the mrci that it was started from", r.Command))
}

// answer makes an answer of a report and an error.
func answer(report string, err error) control.Answer {
	var a control.Answer
	if report != "" {
		a.Text = report + "\n"
	}
	if err != nil {
		a.Status, a.Error = 1, strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	return a
}

func (h *Host) answerStatus() control.Answer {
	s := h.Status()
	data, err := json.Marshal(s)
	if err != nil {
		return control.Fail(err.Error())
	}
	return control.Answer{Text: s.Text(), Data: data}
}

// Listen takes connections at another address, ADDR:PORT, from now on. Sessions
// stay; after an error the host listens where it did.
func (h *Host) Listen(ctx context.Context, addr string) error {
	h.announcing.Lock() // so that the last address is the one announced
	defer h.announcing.Unlock()
	before := h.Addr()
	if err := h.entrance.Move(ctx, addr); err != nil {
		return err
	}
	h.log.Info("listening elsewhere", "addr", h.Addr().String(), "before", before.String())
	if h.cfg.Moved != nil {
		h.cfg.Moved(h.Addr())
	}
	return nil
}

// accountTimeout is for the sessions of an account that has changed.
const accountTimeout = 5 * time.Second

// accountChanged makes the sessions of an account look at it again: another
// process has changed it in the database.
func (h *Host) accountChanged(ctx context.Context, name string) control.Answer {
	user, err := h.accounts.UserByName(ctx, name)
	switch {
	case errors.Is(err, account.ErrNotFound):
		return control.Fail("there is no account " + name)
	case err != nil:
		return control.Fail(err.Error())
	}
	h.log.Info("account changed from the command line", "user", user.Name)
	ctx, cancel := context.WithTimeout(ctx, accountTimeout)
	defer cancel()
	err = h.bus.Request(ctx, bus.ToUser(user.ID), bus.Event{Async: wire.AsyncUserRankChg, User: user.ID})
	if err != nil {
		h.log.Warn("session did not answer", "async", wire.AsyncUserRankChg.String(), "err", err)
	}
	return control.Answer{}
}
