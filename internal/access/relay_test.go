package access_test

import (
	"testing"

	"mrci.dev/mrci/internal/access"
	"mrci.dev/mrci/wire"
)

// TestMayRelay names what may be carried; of all 256 types nothing else may.
func TestMayRelay(t *testing.T) {
	allowed := map[wire.TypeID]bool{
		1:  true, // GEN_FILE
		2:  true, // TEXT
		3:  true, // ERR
		4:  true, // PRIV_TEXT
		7:  true, // FILE_INFO
		14: true, // BYTES
		15: true, // SESSION_ID
		17: true, // CMD_ID
		18: true, // BIG_TEXT
		22: true, // CH_MEMBER_INFO
		23: true, // CH_ID
		27: true, // PROMPT_TEXT
		28: true, // PROG
		29: true, // PROG_LAST
	}
	for id := range 256 {
		if typ := wire.TypeID(id); access.MayRelay(typ) != allowed[typ] {
			t.Errorf("%s (%d): got %v", typ, id, access.MayRelay(typ))
		}
	}
}
