package module

// Word is one word of an argument text.
type Word struct {
	Text   string
	Quoted bool
}

// SplitWords is splitWords, for tests.
func SplitWords(text []byte) ([]Word, error) {
	words, err := splitWords(text, make([]byte, 0, len(text)))
	var exported []Word
	for _, w := range words {
		exported = append(exported, Word{string(w.text), w.quoted})
	}
	return exported, err
}
