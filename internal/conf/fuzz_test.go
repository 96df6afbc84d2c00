package conf_test

import (
	"reflect"
	"strings"
	"testing"

	"mrci.dev/mrci/internal/conf"
)

// What is refused is refused in one line; what is taken can be written and
// means the same when it is read again.
func FuzzParse(f *testing.F) {
	dirs := testDirs(f)
	c := conf.Defaults(dirs)
	f.Add(string(conf.EncodeAll(&c)))
	for _, text := range []string{
		"", "{}", "[]", "\ufeff{}", `{"a":{"b":[1,true,null,"x"]}}`, `{"tls_min":"1.2","tls_min":"1.3"}`,
		`{"fs_roots":{"1":"/a","bob":"b"},"tls_names":["a","::1"],"fs_file_mask":"027"}`,
		`{"tls_cert_chain":"a:b:/c","smtp_host":"h","smtp_from":"a@b","prompt_timeout_s":5}`,
		"{\n\"x\": tru}", "{\"max_sessions\": 1e3}", "{\"db_password\": \"\\u0000\"}",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := conf.Parse("conf.json", []byte(text), dirs)
		if err != nil {
			if s := err.Error(); strings.ContainsAny(s, "\r\n") || !strings.HasPrefix(s, "conf.json:") {
				t.Errorf("error is not one line that begins with the file: %q", s)
			}
			if !reflect.DeepEqual(got, conf.Config{}) {
				t.Error("a configuration and an error")
			}
			return
		}
		again, err := conf.Parse("conf.json", conf.EncodeAll(&got), dirs)
		if err != nil {
			t.Fatalf("written again it is refused: %v", err)
		}
		if !reflect.DeepEqual(got, again) {
			t.Errorf("written again it means something else:\n%s\n%s", conf.EncodeAll(&got), conf.EncodeAll(&again))
		}
	})
}

// Text after KEY= is judged without a panic, and an error leaves no trace.
func FuzzSet(f *testing.F) {
	dirs := testDirs(f)
	for _, a := range []string{"", "=", "a=b", "max_sessions=5", `fs_roots={"1":"x"}`, "tls_names=[", "tls_names=a,b", "smtp_password=x"} {
		f.Add(a)
	}
	f.Fuzz(func(t *testing.T, assignment string) {
		c := conf.Defaults(dirs)
		if err := c.Set(assignment); err != nil {
			if strings.ContainsAny(err.Error(), "\r\n") {
				t.Errorf("error has several lines: %q", err)
			}
			if !reflect.DeepEqual(c, conf.Defaults(dirs)) {
				t.Error("changed in spite of an error")
			}
		}
	})
}
