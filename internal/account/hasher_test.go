package account_test

import (
	"bytes"
	"context"
	"crypto/sha512"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"mrci.dev/mrci/internal/account"
	"mrci.dev/mrci/internal/account/accounttest"
)

// The vector of the reference implementation's own tests.
const referenceHash = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"

func TestHashText(t *testing.T) {
	h := accounttest.Hasher(t)
	text, err := h.Hash(ctx, account.Secret("secret"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(text, "$argon2id-sha512$v=19$m=8,t=1,p=1$") {
		t.Errorf("got %s", text)
	}
	if again, _ := h.Hash(ctx, account.Secret("secret")); again == text {
		t.Error("the same salt twice")
	}
	for _, tt := range []struct {
		name      string
		stored    string
		pw        account.Secret
		ok, stale bool
		err       error
	}{
		{"right", text, account.Secret("secret"), true, false, nil},
		{"wrong", text, account.Secret("Secret"), false, false, nil},
		{"empty password", text, nil, false, false, nil},
		{"reference", referenceHash, account.Secret("password"), true, true, nil},
		{"reference, wrong", referenceHash, account.Secret("passwore"), false, true, nil},
		{"no account", "", account.Secret("secret"), false, false, nil},
		{"unreadable", "secret", account.Secret("secret"), false, false, account.ErrBadRecord},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := h.Stats().Hashes
			ok, stale, err := h.Verify(ctx, tt.stored, tt.pw)
			if ok != tt.ok || stale != tt.stale || !errors.Is(err, tt.err) {
				t.Errorf("got %v, %v, %v; want %v, %v, %v", ok, stale, err, tt.ok, tt.stale, tt.err)
			}
			if n := h.Stats().Hashes - before; n != 1 {
				t.Errorf("%d hashes, want 1", n)
			}
		})
	}
}

// What Argon2 gets is as the package says: SHA-512 of the salt in 64 bytes, the
// length in eight, the password, and zeros up to whole blocks.
func TestArgonInput(t *testing.T) {
	salt := []byte("0123456789abcdef")
	for _, size := range []int{0, 1, 15, 55, 56, 57, 183, 184, 185, 255, 256, 800} {
		pw := account.Secret(strings.Repeat("p", size))
		block := append(append([]byte(nil), salt...), make([]byte, 48)...)
		block = append(block, 0, 0, 0, 0, 0, 0, byte(size>>8), byte(size))
		block = append(block, pw...)
		for len(block)%128 != 0 {
			block = append(block, 0)
		}
		want := sha512.Sum512(block)
		if got := account.ArgonInput(salt, pw); !bytes.Equal(got, want[:]) {
			t.Errorf("%d bytes: got %x, want %x", size, got, want)
		}
		if string(pw) != strings.Repeat("p", size) {
			t.Errorf("%d bytes: the password was changed", size)
		}
	}
}

// A record that has not changed since it was written opens with its password.
func TestStoredForm(t *testing.T) {
	const stored = "$argon2id-sha512$v=19$m=8,t=1,p=1$cbgz/qNeV6ZyjNCcGp6/rg$JcvMBa4qFvgFGs6fxy3pXj6etCMRvZv14LrwpSCFpb0"
	h := accounttest.Hasher(t)
	if ok, stale, err := h.Verify(ctx, stored, account.Secret("pässword")); !ok || stale || err != nil {
		t.Errorf("got %v, %v, %v", ok, stale, err)
	}
	plain := strings.Replace(stored, "argon2id-sha512", "argon2id", 1)
	if ok, stale, err := h.Verify(ctx, plain, account.Secret("pässword")); ok || !stale || err != nil {
		t.Errorf("as another scheme: got %v, %v, %v", ok, stale, err)
	}
}

func TestHashDefaults(t *testing.T) {
	h, err := account.NewHasher(account.HasherConfig{})
	if err != nil {
		t.Fatal(err)
	}
	text, err := h.Hash(ctx, account.Secret("secret"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(text, "$argon2id-sha512$v=19$m=19456,t=2,p=1$") {
		t.Errorf("got %s", text)
	}
}

func TestHashParams(t *testing.T) {
	for _, tt := range []struct {
		name   string
		params account.HashParams
		ok     bool
	}{
		{"cheap", account.CheapHash(), true},
		{"defaults", account.HashParams{}, true},
		{"least for four lanes", account.HashParams{KiB: 32, Lanes: 4}, true},
		{"too little memory", account.HashParams{KiB: 7}, false},
		{"too little for its lanes", account.HashParams{KiB: 31, Lanes: 4}, false},
		{"too much memory", account.HashParams{KiB: 1<<20 + 1}, false},
		{"too many passes", account.HashParams{Time: 65}, false},
		{"too many lanes", account.HashParams{Lanes: 17}, false},
	} {
		_, err := account.NewHasher(account.HasherConfig{Params: tt.params})
		if (err == nil) != tt.ok {
			t.Errorf("%s: got %v, want ok %v", tt.name, err, tt.ok)
		}
		if err := accounttest.Hasher(t).SetParams(tt.params); (err == nil) != tt.ok {
			t.Errorf("%s: set: got %v, want ok %v", tt.name, err, tt.ok)
		}
	}
}

func TestParseHash(t *testing.T) {
	const salt, sum = "c29tZXNhbHQ", "CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
	hash := func(costs, salt, sum string) string { return "$argon2id$v=19$" + costs + "$" + salt + "$" + sum }
	for _, tt := range []struct {
		name, text string
		ok         bool
	}{
		{"reference", referenceHash, true},
		{"one GiB", hash("m=1048576,t=1,p=1", salt, sum), true},
		{"of a digest", strings.Replace(referenceHash, "argon2id", "argon2id-sha512", 1), true},

		{"empty", "", false},
		{"nothing in it", "$$$$$", false},
		{"more than one GiB", hash("m=1048577,t=1,p=1", salt, sum), false},
		{"four TiB", hash("m=4294967295,t=1,p=1", salt, sum), false},
		{"beyond 32 bits", hash("m=4294967304,t=1,p=1", salt, sum), false},
		{"no memory", hash("m=0,t=1,p=1", salt, sum), false},
		{"no passes", hash("m=64,t=0,p=1", salt, sum), false},
		{"minutes", hash("m=64,t=4294967295,p=1", salt, sum), false},
		{"no lanes", hash("m=64,t=1,p=0", salt, sum), false},
		{"lanes beyond a byte", hash("m=64,t=1,p=257", salt, sum), false},
		{"negative", hash("m=-64,t=1,p=1", salt, sum), false},
		{"sign", hash("m=+64,t=1,p=1", salt, sum), false},
		{"leading zero", hash("m=064,t=1,p=1", salt, sum), false},
		{"order", hash("t=1,m=64,p=1", salt, sum), false},
		{"cost missing", hash("m=64,t=1", salt, sum), false},
		{"cost twice", hash("m=64,t=1,p=1,p=1", salt, sum), false},
		{"of another digest", strings.Replace(referenceHash, "argon2id", "argon2id-sha256", 1), false},
		{"argon2i", strings.Replace(referenceHash, "argon2id", "argon2i", 1), false},
		{"old version", strings.Replace(referenceHash, "v=19", "v=16", 1), false},
		{"part missing", "$argon2id$v=19$m=64,t=1,p=1$" + salt, false},
		{"part added", referenceHash + "$", false},
		{"text in front", "x" + referenceHash, false},
		{"line end", referenceHash + "\n", false},
		{"line end in base64", hash("m=64,t=1,p=1", "c29tZX\nNhbHQ", sum), false},
		{"padding", hash("m=64,t=1,p=1", salt+"=", sum), false},
		{"stray bits", hash("m=64,t=1,p=1", "c29tZXNhbHR", sum), false},
		{"short salt", hash("m=64,t=1,p=1", "c29tZQ", sum), false},
		{"long salt", hash("m=64,t=1,p=1", strings.Repeat("c29t", 30), sum), false},
		{"short sum", hash("m=64,t=1,p=1", salt, salt), false},
		{"long sum", hash("m=64,t=1,p=1", salt, strings.Repeat("c29t", 30)), false},
	} {
		got, err := account.ParseHash(tt.text)
		if tt.ok && (err != nil || got != tt.text) {
			t.Errorf("%s: got %q, %v", tt.name, got, err)
		}
		if !tt.ok && !errors.Is(err, account.ErrBadRecord) {
			t.Errorf("%s: got %q, %v; want ErrBadRecord", tt.name, got, err)
		}
	}
}

func FuzzParseHash(f *testing.F) {
	f.Add(referenceHash)
	f.Add("$argon2id$v=19$m=8,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAA")
	f.Add("$argon2id$v=19$m=4294967295,t=1,p=255$$")
	f.Add("$$$$$")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := account.ParseHash(text)
		if err == nil && got != text {
			t.Errorf("%q becomes %q", text, got)
		}
		if err != nil && !errors.Is(err, account.ErrBadRecord) {
			t.Errorf("%q: %v", text, err)
		}
	})
}

func TestHasherQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, err := account.NewHasher(account.HasherConfig{Params: account.CheapHash(), Slots: 2, Queue: 3})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancelCause(context.Background())
		defer cancel(nil)
		for range 2 {
			if err := h.Enter(ctx); err != nil {
				t.Fatal(err)
			}
		}
		// The slots are taken: three wait, and the fourth is turned away.
		var order []int
		var mu sync.Mutex
		var waiters sync.WaitGroup
		for i := range 3 {
			waiters.Go(func() {
				if _, err := h.Hash(ctx, account.Secret("x")); err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				order = append(order, i)
			})
			synctest.Wait() // each is in the queue before the next one comes
		}
		if _, err := h.Hash(ctx, account.Secret("x")); !errors.Is(err, account.ErrBusy) {
			t.Fatalf("got %v, want ErrBusy", err)
		}
		if _, _, err := h.Verify(ctx, referenceHash, account.Secret("x")); !errors.Is(err, account.ErrBusy) {
			t.Fatalf("got %v, want ErrBusy", err)
		}
		if s := h.Stats(); s.Waiting != 3 || s.Refused != 2 || s.Hashes != 0 {
			t.Errorf("got %+v", s)
		}
		h.Leave()
		waiters.Wait()
		if fmt.Sprint(order) != "[0 1 2]" {
			t.Errorf("served in the order %v", order)
		}

		// A caller that gives up leaves the queue.
		if err := h.Enter(ctx); err != nil {
			t.Fatal(err)
		}
		gone := errors.New("client has gone")
		waiters.Go(func() {
			if _, err := h.Hash(ctx, account.Secret("x")); !errors.Is(err, gone) {
				t.Errorf("got %v, want the cause", err)
			}
		})
		synctest.Wait()
		cancel(gone)
		waiters.Wait()
		if _, err := h.Hash(ctx, account.Secret("x")); !errors.Is(err, gone) {
			t.Errorf("got %v, want the cause", err)
		}
		if s := h.Stats(); s.Waiting != 0 {
			t.Errorf("%d wait", s.Waiting)
		}
		h.Leave()
		h.Leave()
	})
}

// Logins that pass a busy hasher at the same time never run more hashes than
// there are slots.
func TestHasherNeverExceedsSlots(t *testing.T) {
	h, err := account.NewHasher(account.HasherConfig{Params: account.CheapHash(), Slots: 2, Queue: 1000})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	running, most := 0, 0
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			for range 20 {
				if err := h.Enter(ctx); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				running++
				most = max(most, running)
				mu.Unlock()
				mu.Lock()
				running--
				mu.Unlock()
				h.Leave()
			}
		})
	}
	all.Wait()
	if most > 2 {
		t.Errorf("%d at the same time", most)
	}
}

func BenchmarkLogin(b *testing.B) {
	h, err := account.NewHasher(account.HasherConfig{})
	if err != nil {
		b.Fatal(err)
	}
	text, err := h.Hash(ctx, goodPassword)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if ok, _, err := h.Verify(ctx, text, goodPassword); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}
