package mail_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/mail"
)

func newCommand(t *testing.T, line string) *mail.Command {
	t.Helper()
	c, err := mail.NewCommand(line)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// hostile has in it whatever a shell acts on.
func hostile() mail.Message {
	msg := message()
	msg.To = "o'x*?{1,2}&#~ann@example.org"
	msg.To = strings.ReplaceAll(msg.To, ",", "")
	msg.Subject = "$(touch x) `touch x` \"; touch x; ' touch x & | > x < y \\ * ~ $HOME ${IFS} %target_email%  -rf"
	msg.Body = account.Secret("Hello $(touch x)`touch x`\n'\"; touch x #\n\n-- \n.\n\\\n%subject% %message_body%\n")
	return msg
}

func TestCommand(t *testing.T) {
	path := fakeProgram(t)
	for _, tt := range []struct {
		name, line string
		want       func(m mail.Message) given
	}{
		{"words of their own", "%p -s %subject% -- %target_email% %message_body%", func(m mail.Message) given {
			return given{Args: []string{"-s", m.Subject, "--", m.To, string(m.Body)}}
		}},
		{"pieces of words", "%p '--subject=MRCI: %SUBJECT%' --to=<%Target_Email%>,x %message_body%.", func(m mail.Message) given {
			return given{Args: []string{"--subject=MRCI: " + m.Subject, "--to=<" + m.To + ">,x", string(m.Body) + "."}}
		}},
		{"body on standard input", "%p %target_email% %subject%", func(m mail.Message) given {
			return given{Args: []string{m.To, m.Subject}, Stdin: string(m.Body)}
		}},
		{"another program in front", "env -u NOTHING %p %target_email%%subject%", func(m mail.Message) given {
			return given{Args: []string{m.To + m.Subject}, Stdin: string(m.Body)}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, msg := range []mail.Message{message(), hostile()} {
				c := newCommand(t, strings.ReplaceAll(tt.line, "%p", path))
				if err := c.Send(t.Context(), msg); err != nil {
					t.Fatal(err)
				}
				want := tt.want(msg)
				want.Env = map[string]string{}
				got, _ := record(t)
				if diff := cmp.Diff(want, got); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
	wantEmptyDir(t)
}

func wantEmptyDir(t *testing.T) {
	t.Helper()
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) > 0 {
		t.Errorf("something ran: %v", entries)
	}
}

func TestCommandShell(t *testing.T) {
	path := fakeProgram(t)
	all := func(m mail.Message) given { return given{Args: []string{m.Subject, m.To, string(m.Body)}} }
	piped := func(m mail.Message) given {
		return given{Args: []string{m.Subject, m.To}, Stdin: string(m.Body)}
	}
	tests := []struct {
		name, line string
		want       func(m mail.Message) given
	}{
		{"without quotes", `%s -c '%p %subject% %target_email% %message_body%'`, all},
		{"double quotes", `%s -c '%p "%subject%" "%target_email%" "%message_body%"'`, all},
		{"single quotes", `%s -c "%p '%subject%' '%target_email%' '%message_body%'"`, all},
		{"piped", `%s -c 'printf %s %message_body% | %p "%subject%" %target_email%'`, piped},
		{"body on standard input", `%s -c '%p "%subject%" %target_email%'`, piped},
		{"inside words", `%s -c '%p a%subject%b "c %target_email% d"'`, func(m mail.Message) given {
			return given{Args: []string{"a" + m.Subject + "b", "c " + m.To + " d"}, Stdin: string(m.Body)}
		}},
		{"nested substitution", `%s -c '%p "$(printf "%s" "%subject%")" "$(echo $(printf "%s" %target_email%))" </dev/null'`, func(m mail.Message) given {
			return given{Args: []string{m.Subject, m.To}}
		}},
		{"escaped quotes", `%s -c '%p \\"%subject%\\" %target_email% </dev/null'`, func(m mail.Message) given {
			return given{Args: []string{`"` + m.Subject + `"`, m.To}}
		}},
		{"subshell, group and comment", "%s -c '# it is \\\" done with %subject%\n(true; { %p a#\"b\"%subject% $# %target_email%; }) </dev/null'", func(m mail.Message) given {
			return given{Args: []string{"a#b" + m.Subject, "0", m.To}}
		}},
		{"options", `%s -e -u -fc '%p %subject% %target_email% </dev/null'`, func(m mail.Message) given {
			return given{Args: []string{m.Subject, m.To}}
		}},
		{"options behind", `%s -c -eu -- '%p %subject% %target_email% </dev/null'`, func(m mail.Message) given {
			return given{Args: []string{m.Subject, m.To}}
		}},
		{"behind env", `env A=b %s -c '%p %subject% %target_email% </dev/null'`, func(m mail.Message) given {
			return given{Args: []string{m.Subject, m.To}}
		}},
		{"own positional parameters", `%s -c '%p "$1" "$2" "$3"' mrci %subject% %target_email% %message_body%`, all},
		{"positional parameters and references", `%s -c '%p "$1" %target_email% %message_body%' mrci %subject%`, all},
	}
	for _, shell := range []string{"sh", "bash", "dash", "zsh", "ksh"} {
		t.Run(shell, func(t *testing.T) {
			shell, err := exec.LookPath(shell)
			if err != nil {
				t.Skip(err)
			}
			for _, tt := range tests {
				t.Run(tt.name, func(t *testing.T) {
					for _, msg := range []mail.Message{message(), hostile()} {
						c := newCommand(t, strings.NewReplacer("%s -", shell+" -", "%p", path).Replace(tt.line))
						if err := c.Send(t.Context(), msg); err != nil {
							t.Fatal(err)
						}
						got, _ := record(t)
						got.Env = nil
						if diff := cmp.Diff(tt.want(msg), got); diff != "" {
							t.Error(diff)
						}
					}
					wantEmptyDir(t)
				})
			}
		})
	}

	// What the script does not need does not reach the environment of its
	// programs, and a cleared environment is noticed.
	if err := newCommand(t, "sh -c '"+path+" %subject%' sh %target_email%").Send(t.Context(), message()); err != nil {
		t.Fatal(err)
	}
	got, _ := record(t)
	want := map[string]string{"MRCI_SUBJECT": message().Subject, "MRCI_TARGET_EMAIL": message().To}
	if diff := cmp.Diff(want, got.Env); diff != "" {
		t.Error(diff)
	}
	if err := os.Remove(os.Getenv(recordEnv)); err != nil {
		t.Fatal(err)
	}
	err := newCommand(t, "env -i sh -c '"+path+" %subject% %target_email%'").Send(t.Context(), message())
	wantText(t, err, "exit status", "MRCI_SUBJECT")
	if _, ran := record(t); ran {
		t.Error("the program ran without values")
	}
}

func TestNewCommandRefuses(t *testing.T) {
	const both = " %subject% %target_email%"
	for _, tt := range []struct{ name, line, want string }{
		{"empty", "  ", "empty"},
		{"only empty quotes", `''`, "empty"},
		{"open quote", "mail '" + both, "not closed"},
		{"not UTF-8", "mail \xff" + both, "UTF-8"},
		{"zero byte", "mail \x00" + both, "zero byte"},
		{"no subject", "mail %target_email% %message_body%", "%subject% is missing"},
		{"no target", "mail %subject%", "%target_email% is missing"},
		{"keyword as program", "%subject% %target_email%", "name of a program"},
		{"shell text for another program", "python3 -c 'send(%target_email%, %subject%)'", "word of its own"},
		{"blanks in program text", "perl -e 'print %target_email%' %subject%", "program text"},
		{"cut again", "env -S 'mail -s %subject% %target_email%'", "program text"},
		{"quotes in a word", `curl -d '{"to":"%target_email%"}' %subject%`, "word of its own"},
		{"backslash", `mail \%target_email% %subject%`, "word of its own"},
		{"ssh", "ssh relay mail" + both, "ssh hands"},
		{"su", "/bin/su mail -c 'mail %subject% %target_email%'", "su hands"},
		{"cmd", `C:\Windows\System32\CMD.EXE /c mail` + both, "cmd reads"},
		{"powershell", "powershell -Command Send" + both, "powershell reads"},
		{"powershell, file too late", "powershell Send -File x" + both, "powershell reads"},
		{"powershell without file", "powershell -NoProfile", "missing"},
		{"pwsh, nothing", "pwsh -NoLogo" + both, "pwsh reads"},
		{"fish", "fish -c 'mail %subject% %target_email%'", "fish reads"},
		{"shell reads the body", "sh -s" + both, "would run the body"},
		{"shell reads the body, long options", "bash --norc --rcfile x -o pipefail -s --" + both, "would run the body"},
		{"shell without anything", "mail" + both + " | sh", "would run the body"},
		{"late shell", "nice" + both + " sh -c 'mail %target_email%; x'", ""},
		{"open single quote", `sh -c "mail '%subject% %target_email%"`, "not closed"},
		{"open parenthesis", `sh -c "mail $(%subject% %target_email%"`, "not closed"},
		{"backslash before", `sh -c 'mail \%subject% %target_email%'`, "right before"},
		{"dollar before", `sh -c 'mail $%subject% %target_email%'`, "right before"},
		{"backslash at the end", `sh -c "mail %subject% %target_email% \ \ "`, ""},
		{"backticks", "sh -c 'mail `echo %subject%` %target_email%'", "backticks"},
		{"backticks in quotes", "sh -c 'mail \"`echo %subject%`\" %target_email%'", "backticks"},
		{"here-document", "sh -c 'mail %subject% %target_email% <<E\n%message_body%\nE'", "here-document"},
		{"ANSI-C quote", `sh -c "mail $'%subject%' %target_email%"`, "quote"},
		{"arithmetic", `bash -c 'mail $((%subject%)) %target_email%'`, "arithmetic"},
		{"case", `sh -c 'case %subject% in *) mail %target_email%;; esac'`, "case"},
		{"eval", `sh -c 'eval "mail %subject% %target_email%"'`, "eval"},
		{"shell in the script", `sh -c "/bin/sh -c 'mail %subject% %target_email%'"`, "sh, which"},
		{"ssh in the script", `sh -c 'ssh relay "mail %subject% %target_email%"'`, "ssh, which"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := mail.NewCommand(tt.line)
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			wantText(t, err, "mail_client_cmd", tt.want)
		})
	}
	for _, line := range []string{
		"powershell.exe -NoProfile -ExecutionPolicy Bypass -File send.ps1" + both,
		"sh /opt/send.sh -c" + both,
		"sh -s" + both + " %message_body%",
		"bash -- send.sh" + both,
		"env SHELL=/bin/sh mutt -s" + both,
		"mutt -s 'MRCI: %subject%' -e 'set copy=no' -- %target_email%",
	} {
		if _, err := mail.NewCommand(line); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
}

func TestCommandHostileArguments(t *testing.T) {
	path := fakeProgram(t)
	c := newCommand(t, path+" %subject% %target_email% %message_body%")
	for _, to := range []string{
		"|sh@example.org", "a|b@example.org", "/tmp/x@example.org", "a/b@example.org", "+folder@example.org", "~ann@example.org",
		"&x@example.org", "!x@example.org", "a!b@example.org", "a%b@example.org", "`id`@example.org", "a$b@example.org", "=x@example.org", "#x@example.org",
	} {
		msg := message()
		msg.To = to
		wantField(t, c.Send(t.Context(), msg), "target", to)
	}
	for _, lead := range []string{"-rf", "@/etc/passwd"} {
		msg := message()
		msg.Subject = lead
		wantField(t, c.Send(t.Context(), msg), "subject", lead)
		msg = message()
		msg.Body = account.Secret("-x\n")
		wantField(t, c.Send(t.Context(), msg), "message_body", "")
	}
	if g, ran := record(t); ran {
		t.Errorf("the program ran: %+v", g)
	}
	// On standard input such a body is only text.
	msg := message()
	msg.Body = account.Secret("-x\n")
	if err := newCommand(t, path+" %subject% %target_email%").Send(t.Context(), msg); err != nil {
		t.Error(err)
	}
}

func TestCommandFails(t *testing.T) {
	path := fakeProgram(t)
	t.Run("exit status and output", func(t *testing.T) {
		t.Setenv(modeEnv, "fail")
		err := newCommand(t, path+" %subject% %target_email%").Send(t.Context(), message())
		wantText(t, err, program, "exit status 7", "cannot send to a***@example.org", "[hidden]")
	})
	t.Run("echoed values", func(t *testing.T) {
		// -x prints each command with its values.
		line := "sh -xc 'true %message_body% %target_email%; exit 4' sh %subject%"
		wantText(t, newCommand(t, line).Send(t.Context(), message()), "exit status 4", "[hidden]", "a***@example.org")
	})
	t.Run("more output than is kept", func(t *testing.T) {
		t.Setenv(modeEnv, "flood")
		err := newCommand(t, path+" %subject% %target_email%").Send(t.Context(), message())
		wantText(t, err, "exit status 3", "xxx")
		if len(err.Error()) > 3000 {
			t.Errorf("the error has %d bytes", len(err.Error()))
		}
	})
	t.Run("secret where the output is cut", func(t *testing.T) {
		for _, pad := range []string{"8184", "8185", "8187"} { // 8192 are kept
			line := "sh -c 'printf %" + pad + "s | tr \" \" \" \"; printf %s \"$1\"; exit 5' sh %message_body% %subject% %target_email%"
			msg := message()
			msg.Body = msg.Code
			wantText(t, newCommand(t, line).Send(t.Context(), msg), "exit status 5")
		}
	})
	t.Run("no such program", func(t *testing.T) {
		wantText(t, newCommand(t, path+"2 %subject% %target_email%").Send(t.Context(), message()), program+"2", "no such file")
	})
	t.Run("batch file", func(t *testing.T) {
		wantText(t, newCommand(t, path+".BAT %subject% %target_email%").Send(t.Context(), message()), "batch files")
	})
}

func TestCommandKilled(t *testing.T) {
	path := fakeProgram(t)
	t.Setenv(modeEnv, "hang")
	l := lifeline(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	gaveUp := errors.New("gave up")
	var send sync.WaitGroup
	send.Go(func() {
		err := newCommand(t, path+" %subject% %target_email%").Send(ctx, message())
		if !errors.Is(err, gaveUp) {
			t.Errorf("got %v", err)
		}
	})
	conn := accept(t, l)
	cancel(gaveUp)
	send.Wait()
	wantEnd(t, conn)
}

// A program that leaves a child with its pipes has still done its work.
func TestCommandLeavesChild(t *testing.T) {
	path := fakeProgram(t)
	t.Setenv(modeEnv, "leave")
	l := lifeline(t)
	c := newCommand(t, path+" %subject% %target_email%")
	c.SetWaitDelay(50 * time.Millisecond)
	if err := c.Send(t.Context(), message()); err != nil {
		t.Error(err)
	}
	accept(t, l).Close() // ends the child
}

func FuzzCommandLine(f *testing.F) {
	for _, seed := range []string{
		`mutt -s %subject% -- %target_email%`,
		`sh -c 'printf %s "%message_body%" | mail -s "%subject%" %target_email%'`,
		`a"b c"d '' \' \\" 'x\'y'`,
		"sh -c \"# '\n$(a '%SUBJECT%') `x` (%target_email%)\"",
		`powershell -File x %subject% %target_email%`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		words, err := mail.SplitLine(line)
		if err == nil {
			quoted := make([]string, len(words))
			for i, w := range words {
				quoted[i] = quote(w)
			}
			again, err := mail.SplitLine(strings.Join(quoted, " "))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(words, again); diff != "" {
				t.Error(diff)
			}
		}
		if c, err := mail.NewCommand(line); err == nil && c == nil {
			t.Error("neither a command nor an error")
		}
	})
}

// quote writes a word so that it stays one (commands 1.2). A backslash in front
// of the closing quote would open it again, so those at the end stand outside.
func quote(word string) string {
	body := strings.TrimRight(word, `\`)
	tail := word[len(body):]
	if body == "" {
		return tail
	}
	return "'" + strings.NewReplacer("'", `\'`, `"`, `\"`).Replace(body) + "'" + tail
}

func TestCommandFind(t *testing.T) {
	path := fakeProgram(t)
	c, err := mail.NewCommand(path + " %subject% %target_email%")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Find(); err != nil {
		t.Error(err)
	}
	c, err = mail.NewCommand(path + "-not-there %subject% %target_email%")
	if err != nil {
		t.Fatal(err)
	}
	wantText(t, c.Find(), "mail_client_cmd", path+"-not-there")
}
