package control

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"runtime"
)

// socketName is the socket in the runtime directory.
const socketName = "control.sock"

// maxSocketPath is how long the path of a socket can be on a system: what
// sockaddr_un has, less the null at its end.
func maxSocketPath(goos string) int {
	switch goos {
	case "linux", "windows":
		return 107
	}
	return 103 // macOS and the BSDs
}

// SocketPath returns where the control socket of the host with this runtime
// directory is: in the directory itself or, where that path is too long for a socket,
// in the account's runtime directory under a hash of it. The error says
// that both are too long.
func SocketPath(runtimeDir, accountRuntime string) (string, error) {
	return socketPath(runtime.GOOS, runtimeDir, accountRuntime)
}

func socketPath(goos, runtimeDir, accountRuntime string) (string, error) {
	limit := maxSocketPath(goos)
	path := filepath.Join(runtimeDir, socketName)
	if len(path) <= limit {
		return path, nil
	}
	// Host and client may reach the directory by different names. Where it does
	// not exist, no host runs, and any name will do.
	one := filepath.Clean(runtimeDir)
	if resolved, err := filepath.EvalSymlinks(one); err == nil {
		one = resolved
	}
	sum := sha256.Sum256([]byte(one))
	short := filepath.Join(accountRuntime, hex.EncodeToString(sum[:10])+".sock")
	if len(short) <= limit {
		return short, nil
	}
	return "", fmt.Errorf("the path of the control socket is too long, %s as well as %s: a socket's has at most %d bytes on this system; use a shorter --dir",
		path, short, limit)
}
