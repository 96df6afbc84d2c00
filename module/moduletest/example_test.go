package moduletest_test

import (
	"context"
	"fmt"
	"testing"

	"mrci.dev/mrci/module"
	"mrci.dev/mrci/module/moduletest"
	"mrci.dev/mrci/wire"
)

// greet is a command as a module brings it.
var greet = &module.Command{
	Name:  "greet",
	Class: module.Ranked,
	Args:  []module.Arg{{Name: "name", Required: true}},
	Run: func(ctx context.Context, c *module.Call) error {
		sure, err := c.Confirm(ctx, "Really? (y/n): ")
		if err != nil {
			return err
		}
		if !sure {
			return module.ErrAborted
		}
		return c.Line(ctx, "Hello "+c.Args.String("name")+"!")
	},
}

func testGreet(t *testing.T) {
	call := moduletest.Start(t, greet, "-name 'good people'")
	call.Answer("Really? (y/n): ", "yes")
	call.Expect(wire.Text, "Hello good people!\n")
	call.End(wire.NoErrors)
}

func testGreetRefusals(t *testing.T) {
	call := moduletest.Start(t, greet, "")
	call.Expect(wire.Err, "Missing -name.\n")
	call.End(wire.InvalidParams)

	call = moduletest.Start(t, greet, "-name Ann")
	call.Expect(wire.PromptText, "Really? (y/n): ")
	call.Term()
	call.End(wire.Aborted)
}

// The functions are tests like any others; the example runs them to show that
// they pass.
func Example() {
	all := func(string, string) (bool, error) { return true, nil }
	fmt.Println(testing.RunTests(all, []testing.InternalTest{
		{Name: "TestGreet", F: testGreet},
		{Name: "TestGreetRefusals", F: testGreetRefusals},
	}))
	// Output: true
}
