package account_test

import (
	"strings"
	"testing"
	"unicode"

	"mrci.dev/mrci/internal/account"
)

func TestCheckPassword(t *testing.T) {
	ann := account.NewAccount{Name: "Ann", Email: "ann@example.org", Display: "Ämilie Lee"}
	for _, tt := range []struct {
		name string
		rule account.PasswordRule
		who  account.NewAccount
		pw   string
		want string // part of the text; empty: accepted
	}{
		{name: "all classes", pw: "Tr0ub4d&r"},
		{name: "eight", pw: "aB3$efgh"},
		{name: "eight characters of more bytes", pw: "äÖ3€äöüß"},
		{name: "two hundred", pw: "aB3$" + strings.Repeat("ü", 196)},
		{name: "symbols count as punctuation", pw: "aB3+efgh"},
		{name: "numbers beyond digits", pw: "aB½$efgh"},
		{name: "blanks are fine", pw: " aB3$ fg "},

		{name: "empty", pw: "", want: "shorter than 8"},
		{name: "seven", pw: "aB3$efg", want: "shorter than 8"},
		{name: "two hundred and one", pw: "aB3$" + strings.Repeat("ü", 197), want: "longer than 200"},
		{name: "no upper case", pw: "ab3$efgh", want: "lacks an upper-case letter;"},
		{name: "no lower case", pw: "AB3$EFGH", want: "lacks a lower-case letter;"},
		{name: "no number", pw: "aBc$efgh", want: "lacks a number;"},
		{name: "no symbol", pw: "aB3defgh", want: "lacks a punctuation character or symbol;"},
		{name: "letters only", pw: "abcdefgh", want: "lacks an upper-case letter, a number and a punctuation character or symbol;"},
		{name: "not UTF-8", pw: "aB3$efg\xff", want: "not valid UTF-8"},
		{name: "user name", who: ann, pw: "xX3$aNNxx", want: "contains the user name"},
		{name: "e-mail address", who: ann, pw: "xX3$ANN@Example.ORG", want: "contains the e-mail address"},
		{name: "display name", who: ann, pw: "xX3$äMILIE leex", want: "contains the display name"},
		{name: "display name decomposed", who: ann, pw: "xX3$A\u0308MILIE LEE", want: "contains the display name"},
		{name: "all three are tested", who: account.NewAccount{Name: "bob", Email: "x@y.z", Display: "ann"}, pw: "xX3$xannx", want: "display name"},
		{name: "common", pw: "P@ssw0rd", want: "most common"},
		{name: "common in another case", pw: "pASSWORD123!", want: "most common"},

		{name: "length", rule: account.RuleLength, pw: "correct horse"},
		{name: "length of twelve", rule: account.RuleLength, pw: "xqjzvkwpyfgm"},
		{name: "length of eleven", rule: account.RuleLength, pw: "xqjzvkwpyfg", want: "shorter than 12"},
		{name: "length too long", rule: account.RuleLength, pw: strings.Repeat("x", 201), want: "longer than 200"},
		{name: "length, user name", rule: account.RuleLength, who: ann, pw: "the anniversary", want: "user name"},
		{name: "length, common", rule: account.RuleLength, pw: "CorrectHorseBatteryStaple", want: "most common"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t)
			f.setPolicy(account.Policy{PasswordRule: tt.rule})
			err := f.CheckPassword(tt.who, account.Secret(tt.pw))
			if tt.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			wantRule(t, err, "password")
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %q, want something with %q", err, tt.want)
			}
			if tt.pw != "" && strings.Contains(err.Error(), tt.pw) {
				t.Errorf("the text has the password: %q", err)
			}
		})
	}
}

func TestCommonPasswords(t *testing.T) {
	if n := account.CommonPasswords(); n < 500 {
		t.Errorf("the list has %d entries", n)
	}
}

func TestPasswordRuleString(t *testing.T) {
	if account.RuleClasses.String() != "classes" || account.RuleLength.String() != "length" {
		t.Errorf("got %s and %s", account.RuleClasses, account.RuleLength)
	}
}

func TestGeneratedPasswords(t *testing.T) {
	// A name of two letters that the alphabet has comes up by chance.
	who := account.NewAccount{Name: "ab", Email: "ab@change_me.null"}
	f := newFixture(t)
	seen := make(map[string]bool)
	for range 2000 {
		pw := account.Generate(who)
		text := string(pw)
		if seen[text] {
			t.Fatalf("twice the same")
		}
		seen[text] = true
		if len(text) != 20 {
			t.Fatalf("%d characters", len(text))
		}
		if strings.ContainsAny(text, "0O1lI'\"`\\$ ") || strings.IndexFunc(text, func(r rune) bool { return r > unicode.MaxASCII || !unicode.IsGraphic(r) }) >= 0 {
			t.Fatalf("ambiguous: %s", text)
		}
		for _, rule := range []account.PasswordRule{account.RuleClasses, account.RuleLength} {
			f.setPolicy(account.Policy{PasswordRule: rule})
			if err := f.CheckPassword(who, pw); err != nil {
				t.Fatalf("%s: %v", rule, err)
			}
		}
	}
}

// Every character must be able to stand everywhere: an off-by-one in the
// alphabet or in the shuffle shows as a place or a character that never comes.
func TestGeneratedPasswordsUseTheWholeAlphabet(t *testing.T) {
	chars := make(map[byte]int)
	firstIsUpper := 0
	const rounds = 3000
	for range rounds {
		pw := string(account.Generate(account.NewAccount{}))
		for i := range len(pw) {
			chars[pw[i]]++
		}
		if 'A' <= pw[0] && pw[0] <= 'Z' {
			firstIsUpper++
		}
	}
	if got, want := len(chars), 24+24+8+10; got != want {
		t.Errorf("%d different characters, want %d", got, want)
	}
	if firstIsUpper < rounds/5 || firstIsUpper > rounds/2 {
		t.Errorf("upper case comes first in %d of %d", firstIsUpper, rounds)
	}
}
