package conf

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
)

// DirEnv is the environment variable that stands for --dir.
const DirEnv = "MRCI_DIR"

// program names the host's directory inside the ones that all programs share.
const program = "mrci"

// Dirs says where the host keeps its files, as absolute paths.
type Dirs struct {
	Config  string // conf.json and mail templates
	Data    string // database and the users' files
	Cert    string // certificate and private key that the host made
	Runtime string // control socket and lock file
	// AccountRuntime is the runtime directory without --dir. It takes the
	// control socket when its path below Runtime would be too long (state 7).
	AccountRuntime string
}

// File returns the path of conf.json.
func (d Dirs) File() string { return filepath.Join(d.Config, FileName) }

func (d Dirs) certChain() string { return filepath.Join(d.Cert, "tls_chain.pem") }
func (d Dirs) privKey() string   { return filepath.Join(d.Cert, "tls_priv.pem") }

// Locate finds the host's directories (design D11) and creates nothing. A
// dirFlag or, without it, MRCI_DIR puts everything below that one directory. Otherwise root
// has /etc/mrci, /var/lib/mrci and /run/mrci, and other accounts the XDG
// directories; on macOS and Windows what is usual there. The arguments besides
// dirFlag describe the process: os.Getenv, os.Getuid and the home directory,
// which may be empty. It fails when an account has no home directory and
// nothing else says where to go.
func Locate(dirFlag string, env func(string) string, uid int, home string) (Dirs, error) {
	return locate(runtime.GOOS, dirFlag, env, uid, home)
}

func locate(goos, dirFlag string, env func(string) string, uid int, home string) (Dirs, error) {
	one := dirFlag
	if one == "" {
		one = env(DirEnv)
	}
	account, err := accountDirs(goos, env, uid, home)
	if one == "" {
		if err != nil {
			return Dirs{}, fmt.Errorf("find the host's directory: %w: use --dir DIR or set %s", err, DirEnv)
		}
		return account, nil
	}
	dir, err := filepath.Abs(one)
	if err != nil {
		return Dirs{}, fmt.Errorf("find the host's directory %s: %w", quote(one), err)
	}
	// A directory of its own, because it is closed to everybody else.
	runtime := filepath.Join(dir, "run")
	// An account without directories of its own still has the one given.
	if account.Runtime == "" {
		account.Runtime = runtime
	}
	return Dirs{Config: dir, Data: dir, Cert: dir, Runtime: runtime, AccountRuntime: account.Runtime}, nil
}

// accountDirs returns the directories of an account that chose none.
func accountDirs(goos string, env func(string) string, uid int, home string) (Dirs, error) {
	var d Dirs
	switch {
	case uid == 0:
		d = Dirs{Config: "/etc/mrci", Data: "/var/lib/mrci", Runtime: "/run/mrci"}
		if goos == "darwin" {
			d.Runtime = "/var/run/mrci" // there is no /run
		}
	case goos == "windows":
		d.Config = shared(env("AppData"), home, "AppData", "Roaming")
		d.Data = shared(env("LocalAppData"), home, "AppData", "Local")
	case goos == "darwin":
		d.Config = shared(env("XDG_CONFIG_HOME"), home, "Library", "Application Support")
		d.Data = shared(env("XDG_DATA_HOME"), home, "Library", "Application Support")
		d.Runtime = shared(env("XDG_RUNTIME_DIR"), "")
	default:
		d.Config = shared(env("XDG_CONFIG_HOME"), home, ".config")
		d.Data = shared(env("XDG_DATA_HOME"), home, ".local", "share")
		d.Runtime = shared(env("XDG_RUNTIME_DIR"), "")
	}
	if d.Config == "" || d.Data == "" {
		return Dirs{}, errors.New("the account has no home directory")
	}
	if d.Runtime == "" {
		// Not the temporary directory, where another account could be first.
		d.Runtime = filepath.Join(d.Data, "run")
	}
	d.Cert = d.Config
	d.AccountRuntime = d.Runtime
	return d, nil
}

// shared returns the program's directory inside dir or, when that is not an
// absolute path (which XDG says to ignore), inside below of the home
// directory; "" when neither is known.
func shared(dir, home string, below ...string) string {
	if !filepath.IsAbs(dir) {
		if !filepath.IsAbs(home) {
			return ""
		}
		dir = filepath.Join(append([]string{home}, below...)...)
	}
	return filepath.Join(dir, program)
}
