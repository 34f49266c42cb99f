package thaw

import (
	"regexp"
	"strings"
	"testing"
)

func TestParseFunctionRef(t *testing.T) {
	tests := []struct {
		in   string
		want FunctionRef
		ok   bool
	}{
		{"hello", FunctionRef{Name: "hello"}, true},
		{"a-B_9", FunctionRef{Name: "a-B_9"}, true},
		{"hello:live", FunctionRef{Name: "hello", Qualifier: "live"}, true},
		{"hello:$LATEST", FunctionRef{Name: "hello", Qualifier: Latest}, true},
		{"hello:42", FunctionRef{Name: "hello", Qualifier: "42"}, true},
		{"function:hello", FunctionRef{Name: "hello"}, true},
		{"123456789012", FunctionRef{Name: "123456789012"}, true},
		{"123456789012:hello", FunctionRef{Account: "123456789012", Name: "hello"}, true},
		{"123456789012:function:hello", FunctionRef{Account: "123456789012", Name: "hello"}, true},
		{"123456789012:function:hello:live", FunctionRef{Account: "123456789012", Name: "hello", Qualifier: "live"}, true},
		{"us-east-1:123456789012:function:hello", FunctionRef{Region: "us-east-1", Account: "123456789012", Name: "hello"}, true},
		{"arn:aws:lambda:us-east-1:123456789012:function:hello", FunctionRef{Region: "us-east-1", Account: "123456789012", Name: "hello"}, true},
		{"arn:aws:lambda:us-east-1:123456789012:function:hello:$LATEST", FunctionRef{Region: "us-east-1", Account: "123456789012", Name: "hello", Qualifier: Latest}, true},
		{"arn:aws-us-gov:lambda:us-gov-west-1:123456789012:function:hello:7", FunctionRef{Region: "us-gov-west-1", Account: "123456789012", Name: "hello", Qualifier: "7"}, true},
		{"arn:aws-iso-b:lambda:us-isob-east-1:123456789012:function:hello", FunctionRef{Region: "us-isob-east-1", Account: "123456789012", Name: "hello"}, true},
		{"arn:aws-cn:lambda:cn-north-1:123456789012:function:hello", FunctionRef{Region: "cn-north-1", Account: "123456789012", Name: "hello"}, true},
		{in: ""}, {in: ":"}, {in: "hello:"}, {in: ":live"}, {in: "a b"}, {in: "a.b"}, {in: "a/b"}, {in: "héllo"}, {in: "hello\n"}, {in: "hello:a:b"},
		{in: "hello:$latest"}, {in: "hello:$LATEST.PUBLISHED"}, {in: "$LATEST"},
		{in: "12345678901:function:hello:live"},
		{in: "arn:aws:lambda:us-east-1:123456789012:layer:hello:1"},
		{in: "arn:aws:s3:us-east-1:123456789012:function:hello"},
		{in: "arn:aws:lambda:us-east-1:123456789012:function:"},
	}
	for _, test := range tests {
		if got, ok := ParseFunctionRef(test.in); ok != test.ok || got != test.want {
			t.Errorf("%q: %+v, %v; want %+v, %v", test.in, got, ok, test.want, test.ok)
		}
	}
}

func TestFunctionARN(t *testing.T) {
	a := Account{ID: "123456789012", Region: "eu-central-1"}
	if got := a.FunctionARN("hello", ""); got != "arn:aws:lambda:eu-central-1:123456789012:function:hello" {
		t.Error(got)
	}
	if got := a.FunctionARN("hello", Latest); got != "arn:aws:lambda:eu-central-1:123456789012:function:hello:$LATEST" {
		t.Error(got)
	}
}

func TestLogGroupName(t *testing.T) {
	if got := (&Version{Function: "hello"}).LogGroupName(); got != "/aws/lambda/hello" {
		t.Error(got)
	}
	if got := (&Version{Function: "hello", LogGroup: "/mine"}).LogGroupName(); got != "/mine" {
		t.Error(got)
	}
}

// modelPattern is FunctionName's in the public Lambda model, anchored.
var modelPattern = regexp.MustCompile(`^(arn:(aws[a-zA-Z-]*)?:lambda:)?([a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?(\d{12}:)?(function:)?([a-zA-Z0-9-_]+)(:(\$LATEST|[a-zA-Z0-9-_]+))?$`)

// FuzzParseFunctionRef holds that what is understood is what AWS's model allows, with parts that the text contains and
// that name the same function again as an ARN.
func FuzzParseFunctionRef(f *testing.F) {
	for _, s := range []string{"hello", "hello:live", "123456789012:hello:1", "arn:aws:lambda:us-east-1:123456789012:function:hello:$LATEST", "arn::lambda:x", "function:function", "us-east-1:x", ":"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ref, ok := ParseFunctionRef(s)
		if !ok {
			if ref != (FunctionRef{}) {
				t.Errorf("%q is refused with %+v", s, ref)
			}
			if modelPattern.MatchString(s) && !strings.HasPrefix(s, "arn::") {
				t.Errorf("%q fits the model and is refused", s)
			}
			return
		}
		if !modelPattern.MatchString(s) {
			t.Errorf("%q does not fit the model and means %+v", s, ref)
		}
		if ref.Name == "" || !isPlainName(ref.Name) {
			t.Errorf("%q has the name %q", s, ref.Name)
		}
		if ref.Account != "" && ref.Region != "" {
			arn := Account{ID: ref.Account, Region: ref.Region}.FunctionARN(ref.Name, ref.Qualifier)
			if again, ok := ParseFunctionRef(arn); !ok || again != ref {
				t.Errorf("%q means %+v, its ARN %q means %+v", s, ref, arn, again)
			}
		}
	})
}
