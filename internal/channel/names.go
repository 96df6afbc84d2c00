package channel

import (
	"strings"
	"unicode/utf8"

	"mrci.dev/mrci/internal/names"
	"mrci.dev/mrci/wire"
)

// Lengths of names of channels and sub-channels (state 2.4): at least so many
// characters, at most so many UTF-16 code units, in which older clients count.
const (
	minName = 4
	maxName = 32
)

// Fields that a RuleError can name.
const (
	fieldChannel = "channel_name"
	fieldSub     = "sub_channel_name"
	fieldNew     = "new_name"
	fieldUser    = "user_name"
	fieldLevel   = "access_level"
)

// called says what a field is called in texts.
var called = map[string]string{
	fieldChannel: "channel name",
	fieldSub:     "sub-channel name",
	fieldNew:     "new name",
	fieldUser:    "user name",
}

// CheckName reports whether a new channel may have this name: nil, or a
// *RuleError.
func CheckName(name string) error { return checkNew(fieldChannel, name) }

// CheckSubName reports whether a new sub-channel may have this name: nil, or a
// *RuleError.
func CheckSubName(name string) error { return checkNew(fieldSub, name) }

// checkNew applies state 2.4 to a name that somebody chooses.
func checkNew(field, name string) error {
	what := "the " + called[field]
	switch {
	case name == "":
		return missing(field)
	case !utf8.ValidString(name):
		return invalid(field, what+" is not valid UTF-8; use another one")
	case names.Units(name) > maxName:
		return invalid(field, what+" is longer than 32 characters (emoji count twice); choose a shorter one")
	case utf8.RuneCountInString(name) < minName:
		return invalid(field, what+" is shorter than 4 characters; choose a longer one")
	case strings.IndexFunc(name, names.Invisible) >= 0:
		return invalid(field, what+" contains white space or an invisible character; leave it out")
	}
	return nil
}

// checkOld reports whether something could have this name: by the loose rule
// of the table, because channels that were imported may have names that are
// not accepted any more.
func checkOld(field, name string) error {
	if names.Plain(name, minName, maxName) {
		return nil
	}
	return checkNew(field, name)
}

// checkUser reports whether an account could have this name.
func checkUser(name string) error {
	if names.LooksLikeUser(name) {
		return nil
	}
	return invalid(fieldUser, "that is not a user name; give one of 2 to 24 characters without blanks")
}

// missing is the answer to an argument that is not there.
func missing(field string) error {
	return invalid(field, "the "+called[field]+" is missing; give one")
}

// given are arguments in their order: fields and values in turn.
func given(pairs ...string) error {
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			return missing(pairs[i])
		}
	}
	return nil
}

// checkLevel reports whether a level is one from 1 to most.
func checkLevel(level, most wire.Level) error {
	switch {
	case level.AtLeast(most):
		return nil
	case most == wire.Regular:
		return invalid(fieldLevel, "the level is not a number from 1 (owner) to 4 (regular); give one")
	}
	return invalid(fieldLevel, "the level is not a number from 1 (owner) to 5 (public); give one")
}
