package host

import (
	"context"
	"os/user"

	"mrci.dev/mrci/internal/store"
	"mrci.dev/mrci/wire"
)

// AuditLocal records what somebody on this machine has done to an account from
// the command line: the audit log shows the account of the machine in
// parentheses, which no user name has, and no address.
func AuditLocal(ctx context.Context, s *store.Store, command, name string) error {
	who := "unknown"
	if u, err := user.Current(); err == nil {
		who = u.Username
	}
	logs, err := s.StartLogs(ctx, store.LogsConfig{})
	if err != nil {
		return err
	}
	logs.Audit(store.AuditRow{UserName: "(" + who + ")", Command: "mrci " + command, Arguments: name, Code: wire.NoErrors})
	return logs.Close()
}
