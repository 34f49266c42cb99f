package pattern

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// instance is the event of EventBridge's and the matcher's documentation, with more values.
const instance = `{
  "version": "0", "id": "ddddd4-aaaa-7777-4444-345dd43cc333", "detail-type": "EC2 Instance State-change Notification",
  "source": "aws.ec2", "account": "012345679012", "time": "2017-10-02T16:24:49Z", "region": "us-east-1",
  "resources": ["arn:aws:ec2:us-east-1:123456789012:instance/i-000000aaaaaa00000"],
  "detail": {"c-count": 5, "d-count": 3, "x-limit": 301.8, "source-ip": "10.0.0.33", "instance-id": "i-000000aaaaaa00000",
    "state": "running", "user": null, "name": "", "spot": true, "file": "/home/a/photo.PNG", "zero": 0.0, "account": 123456789012345678,
    "employees": [{"first": "John", "last": "Doe", "tags": ["x", "y"]}, {"first": "Anna", "last": "Smith", "tags": []}, {"first": "Peter", "last": "Jones"}],
    "nested": [[{"a": 1, "b": 1}, {"a": 2, "b": 2}], [{"a": 3, "b": 3}]], "empty": [], "none": {},
    "v6": "2001:db8::1", "path": "a\\b*c"}
}`

func TestMatch(t *testing.T) {
	for _, test := range []struct {
		pattern string
		want    bool
	}{
		// Values: any of a list; all of the fields.
		{`{"source": ["aws.ec2"]}`, true},
		{`{"source": ["aws.ec"]}`, false},
		{`{"source": ["aws.s3", "aws.ec2"], "detail": {"state": ["initializing", "running"]}}`, true},
		{`{"source": ["aws.ec2"], "detail": {"state": ["terminated"]}}`, false},
		{`{"Source": ["aws.ec2"]}`, false},
		{`{"resources": ["a", "arn:aws:ec2:us-east-1:123456789012:instance/i-000000aaaaaa00000"]}`, true},
		{`{"resources": ["a"]}`, false},
		{`{"detail": {"user": [null]}}`, true},
		{`{"detail": {"user": ["null"]}}`, false},
		{`{"detail": {"name": [""]}}`, true},
		{`{"detail": {"user": [""]}}`, false},
		{`{"detail": {"spot": [true]}}`, true},
		{`{"detail": {"spot": [false]}}`, false},
		{`{"detail": {"spot": ["true"]}}`, false},
		{`{"detail": {"state": [{"exactly": "running"}]}}`, true},
		{`{"detail": ["running"]}`, false},
		{`{"source": {"aws": ["ec2"]}}`, false},
		{`{"detail": {"state": ["stopped"]}, "detail": {"state": ["running"]}}`, true}, // the last counts

		// Numbers, as recorded from EventBridge, not as its guide has it.
		{`{"detail": {"c-count": [5]}}`, true},
		{`{"detail": {"c-count": [5.0]}}`, true},
		{`{"detail": {"c-count": [0.5e1]}}`, true},
		{`{"detail": {"c-count": ["5"]}}`, false},
		{`{"detail": {"zero": [0]}}`, true},
		{`{"detail": {"zero": [-0]}}`, true},
		{`{"detail": {"account": [123456789012345678]}}`, true},
		{`{"detail": {"account": [123456789012345679]}}`, false},
		{`{"detail": {"account": [123456789012345678.0]}}`, false},
		{`{"detail": {"c-count": [{"numeric": [">", 0, "<=", 5]}], "d-count": [{"numeric": ["<", 10]}], "x-limit": [{"numeric": ["=", 3.018e2]}]}}`, true},
		{`{"detail": {"c-count": [{"numeric": [">", 5]}]}}`, false},
		{`{"detail": {"c-count": [{"numeric": [">=", 5]}]}}`, true},
		{`{"detail": {"c-count": [{"numeric": ["<", 5]}]}}`, false},
		{`{"detail": {"c-count": [{"numeric": ["<=", 5.000000]}]}}`, true},
		{`{"detail": {"c-count": [{"numeric": [">", 4.999999, "<", 5.000001]}]}}`, true},
		{`{"detail": {"account": [{"numeric": [">", 0]}]}}`, false}, // out of the range that is compared
		{`{"account": [{"numeric": [">", 0]}]}`, false},
		{`{"detail": {"user": [{"numeric": ["<", 5]}]}}`, false},

		// Beginnings, ends, case.
		{`{"time": [{"prefix": "2017-10-02"}]}`, true},
		{`{"time": [{"prefix": "2017-10-03"}]}`, false},
		{`{"detail": {"c-count": [{"prefix": "5"}]}}`, false},
		{`{"detail-type": [{"prefix": {"equals-ignore-case": "ec2 INST"}}]}`, true},
		{`{"detail-type": [{"prefix": {"equals-ignore-case": "ec2 INSX"}}]}`, false},
		{`{"region": [{"prefix": {"equals-ignore-case": "us-east-1 and more"}}]}`, false},
		{`{"source": [{"suffix": "ec2"}]}`, true},
		{`{"source": [{"suffix": "EC2"}]}`, false},
		{`{"detail": {"file": [{"suffix": {"equals-ignore-case": ".png"}}]}}`, true},
		{`{"detail": {"file": [{"suffix": {"equals-ignore-case": ".jpg"}}]}}`, false},
		{`{"detail-type": [{"equals-ignore-case": "ec2 instance state-change notification"}]}`, true},
		{`{"detail-type": [{"equals-ignore-case": "ec2 instance state-change"}]}`, false},
		{`{"detail": {"name": [{"equals-ignore-case": ""}]}}`, true},
		{`{"source": [{"prefix": ""}]}`, true},
		{`{"detail": {"spot": [{"prefix": ""}]}}`, false},

		// Wildcards.
		{`{"detail": {"file": [{"wildcard": "/home/*/*.PNG"}]}}`, true},
		{`{"detail": {"file": [{"wildcard": "/home/*/*.png"}]}}`, false},
		{`{"detail": {"file": [{"wildcard": "/home/*photo"}]}}`, false},
		{`{"detail": {"file": [{"wildcard": "*"}]}}`, true},
		{`{"detail": {"name": [{"wildcard": "*"}]}}`, true},
		{`{"detail": {"file": [{"wildcard": "/home/a/photo.PNG"}]}}`, true},
		{`{"detail": {"file": [{"wildcard": "*photo.PNG*"}]}}`, true},
		{`{"detail": {"file": [{"wildcard": "/home/a/photo*photo.PNG"}]}}`, false}, // parts do not overlap
		{`{"resources": [{"wildcard": "*:*:*:*:*:instance/*"}]}`, true},
		{`{"detail": {"path": [{"wildcard": "a\\\\b\\*c"}]}}`, true},
		{`{"detail": {"path": [{"wildcard": "a\\\\*c"}]}}`, true},
		{`{"detail": {"path": [{"wildcard": "a\\*c"}]}}`, false},
		{`{"detail": {"c-count": [{"wildcard": "*"}]}}`, false},

		// Anything but.
		{`{"detail": {"state": [{"anything-but": "initializing"}]}}`, true},
		{`{"detail": {"state": [{"anything-but": "running"}]}}`, false},
		{`{"detail": {"state": [{"anything-but": ["stopped", "overloaded"]}]}}`, true},
		{`{"detail": {"state": [{"anything-but": ["stopped", "running"]}]}}`, false},
		{`{"detail": {"x-limit": [{"anything-but": [100, 200, 300]}]}}`, true},
		{`{"detail": {"x-limit": [{"anything-but": 301.80}]}}`, false},
		{`{"detail": {"state": [{"anything-but": 5}]}}`, true},
		{`{"detail": {"c-count": [{"anything-but": "5"}]}}`, true},
		{`{"detail": {"user": [{"anything-but": "x"}]}}`, true},
		{`{"detail": {"nobody": [{"anything-but": "x"}]}}`, false},
		{`{"detail": {"state": [{"anything-but": {"prefix": "init"}}]}}`, true},
		{`{"detail": {"state": [{"anything-but": {"prefix": ["init", "run"]}}]}}`, false},
		{`{"detail": {"c-count": [{"anything-but": {"prefix": "5"}}]}}`, true},
		{`{"detail": {"file": [{"anything-but": {"suffix": ".PNG"}}]}}`, false},
		{`{"detail": {"file": [{"anything-but": {"suffix": [".png", ".jpg"]}}]}}`, true},
		{`{"detail": {"state": [{"anything-but": {"equals-ignore-case": "RUNNING"}}]}}`, false},
		{`{"detail": {"state": [{"anything-but": {"equals-ignore-case": ["STOPPED", "Stopping"]}}]}}`, true},
		{`{"detail": {"file": [{"anything-but": {"wildcard": "/home/*"}}]}}`, false},
		{`{"detail": {"file": [{"anything-but": {"wildcard": ["*/lib/*", "*/bin/*"]}}]}}`, true},
		{`{"detail": {"employees": {"first": [{"anything-but": ["John", "Anna"]}]}}}`, true}, // Peter
		{`{"detail": {"employees": {"first": [{"anything-but": ["John", "Anna", "Peter"]}]}}}`, false},

		// Existence, of leaves alone.
		{`{"detail": {"state": [{"exists": true}]}}`, true},
		{`{"detail": {"state": [{"exists": false}]}}`, false},
		{`{"detail": {"nobody": [{"exists": true}]}}`, false},
		{`{"detail": {"nobody": [{"exists": false}]}}`, true},
		{`{"detail": [{"exists": true}]}`, false},
		{`{"detail": [{"exists": false}]}`, true},
		{`{"nobody": {"at": {"all": [{"exists": false}]}}}`, true},
		{`{"nobody": {"at": {"all": [{"exists": false}, "x"]}}}`, true},
		{`{"nobody": {"at": {"all": [{"exists": false}], "b": ["x"]}}}`, false},
		{`{"detail": {"user": [{"exists": true}]}}`, true},
		{`{"detail": {"empty": [{"exists": true}]}}`, false},
		{`{"detail": {"empty": [{"exists": false}]}}`, true},
		{`{"detail": {"empty": [null]}}`, false},
		{`{"detail": {"none": [{"exists": false}]}}`, true},
		{`{"detail": {"state": [{"exists": false}, "running"]}}`, true},
		{`{"detail": {"state": [{"exists": false}, "stopped"]}}`, false},
		{`{"detail": {"employees": {"tags": [{"exists": false}]}}}`, false}, // the first one has tags
		{`{"detail": {"employees": {"age": [{"exists": false}], "first": ["Anna"]}}}`, true},
		{`{"detail": {"employees": {"tags": [{"exists": false}], "first": ["Peter"]}}}`, false},

		// Addresses.
		{`{"detail": {"source-ip": [{"cidr": "10.0.0.0/24"}]}}`, true},
		{`{"detail": {"source-ip": [{"cidr": "10.0.1.0/24"}]}}`, false},
		{`{"detail": {"source-ip": [{"cidr": "10.0.0.33/32"}]}}`, true},
		{`{"detail": {"source-ip": [{"cidr": "0.0.0.0/0"}]}}`, true},
		{`{"detail": {"v6": [{"cidr": "0.0.0.0/0"}]}}`, false},
		{`{"detail": {"v6": [{"cidr": "2001:db8::/32"}]}}`, true},
		{`{"detail": {"v6": ["2001:0db8:0:0:0:0:0:1"]}}`, true},
		{`{"detail": {"name": [{"cidr": "0.0.0.0/0"}]}}`, false},
		{`{"detail": {"c-count": [{"cidr": "0.0.0.0/0"}]}}`, false},

		// Arrays: fields below one match in one element.
		{`{"detail": {"employees": {"first": ["Anna"]}}}`, true},
		{`{"detail": {"employees": {"first": ["Anna"], "last": ["Smith"]}}}`, true},
		{`{"detail": {"employees": {"first": ["Anna"], "last": ["Jones"]}}}`, false},
		{`{"detail": {"employees": {"first": ["Anna"]}}, "detail.employees": {"last": ["Jones"]}}`, false},
		{`{"detail": {"employees": {"tags": ["y"], "last": ["Doe"]}}}`, true},
		{`{"detail": {"employees": {"tags": ["y"], "last": ["Smith"]}}}`, false},
		{`{"detail": {"nested": {"a": [2], "b": [2]}}}`, true},
		{`{"detail": {"nested": {"a": [1], "b": [3]}}}`, false},
		{`{"detail": {"nested": {"a": [3]}}}`, true},

		// $or.
		{`{"source": ["aws.ec2"], "$or": [{"region": ["eu-west-1"]}, {"detail": {"c-count": [{"numeric": [">", 1]}]}}]}`, true},
		{`{"source": ["aws.s3"], "$or": [{"region": ["us-east-1"]}, {"detail": {"c-count": [5]}}]}`, false},
		{`{"detail": {"$or": [{"c-count": [{"numeric": [">", 9]}]}, {"d-count": [{"numeric": ["<", 10]}]}, {"x-limit": [0]}]}}`, true},
		{`{"detail": {"$or": [{"c-count": [6]}, {"d-count": [3], "$or": [{"state": ["x"]}, {"state": ["y"]}]}]}}`, false},
		{`{"$or": [{"region": ["us-east-1"]}, {"account": ["x"]}], "detail": {"$or": [{"state": ["x"]}, {"spot": [true]}]}}`, true},
		{`{"$or": [{"region": ["us-east-1"]}, {"account": ["x"]}], "detail": {"$or": [{"state": ["x"]}, {"spot": [false]}]}}`, false},
		{`{"$or": [{"detail": {"employees": {"first": ["Anna"]}}}, {"source": ["x"]}], "detail": {"employees": {"last": ["Doe"]}}}`, false},
		{`{"$or": [{"detail": {"employees": {"first": ["John"]}}}, {"source": ["x"]}], "detail": {"employees": {"last": ["Doe"]}}}`, true},
		{`{"version": ["0"], "source": ["aws.ec2"], "region": ["us-east-1"], "$or": [{"account": ["012345679012"]}, {"id": ["x"]}]}`, true},

		// Dots join.
		{`{"detail.state": ["running"]}`, true},
		{`{"detail.employees.first": ["Peter"], "detail": {"employees": {"last": ["Jones"]}}}`, true},
		{`{"detail.state.more": ["running"]}`, false},
	} {
		p, err := Compile([]byte(test.pattern))
		if err != nil {
			t.Errorf("%s: %v", test.pattern, err)
		} else if got := p.Match([]byte(instance)); got != test.want {
			t.Errorf("%s: matches: %v", test.pattern, got)
		}
	}
}

func TestMatchKeysWithDots(t *testing.T) {
	for _, test := range []struct {
		pattern, event string
		want           bool
	}{
		{`{"a": {"b": [1]}}`, `{"a.b": 1}`, true},
		{`{"a.b": [1]}`, `{"a.b": 1}`, true},
		{`{"a.b": [1]}`, `{"a": {"b": 1}}`, true},
		{`{"a.b": [1], "a.c": [2]}`, `{"a.b": 1, "a.c": 2}`, true},
		{`{"a.b": [1], "a.c": [2]}`, `{"a.b": 1, "a": {"c": 2}}`, true},
		{`{"a.b": [1], "a.c": [2]}`, `{"a.b": 1, "a": {"c": 3}}`, false},
		{`{"a.b": [2]}`, `{"a.b": 1, "a": {"b": 2}}`, true},
		{`{"a.b": [1]}`, `{"a.b": 1, "a": {"b": 2}}`, true},
		{`{"a.b": [1]}`, `{"a.b": 1, "a": 7}`, true},
		{`{"a": [7]}`, `{"a.b": 1, "a": 7}`, true},
		{`{"a.b.c": [1]}`, `{"a.b": {"c": 1}}`, true},
		{`{"a.b.c": [1]}`, `{"a": {"b.c": 1}}`, true},
		{`{"a.b.c": [1]}`, `{"a": {"b.c": 1}, "a.b": {"c": 2}}`, true},
		{`{"a.b": [{"exists": false}]}`, `{"a.b": 1}`, false},
		{`{"a.b": [{"exists": false}]}`, `{"a.c": 1, "a": {"d": 2}}`, true},
		{`{".": [1]}`, `{".": 1}`, true},
		{`{"": [1]}`, `{"": 1}`, true},
	} {
		p, err := Compile([]byte(test.pattern))
		if err != nil {
			t.Fatal(err)
		}
		for range 10 { // keys come in any order
			if got := p.Match([]byte(test.event)); got != test.want {
				t.Fatalf("%s with %s: matches: %v", test.pattern, test.event, got)
			}
		}
	}
}

func TestMatchWantsAnObject(t *testing.T) {
	p, err := Compile([]byte(`{"a": [{"exists": false}]}`))
	if err != nil {
		t.Fatal(err)
	}
	for event, want := range map[string]bool{`{}`: true, ` {"b": 1} `: true, ``: false, `null`: false, `[]`: false, `"x"`: false, `{`: false, `{} {}`: false} {
		if got := p.Match([]byte(event)); got != want {
			t.Errorf("%q: matches: %v", event, got)
		}
	}
}

func TestMatchValueTakesNumbersOfGo(t *testing.T) {
	p, err := Compile([]byte(`{"n": [{"numeric": ["=", 1000000]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []any{1_000_000, int64(1_000_000), 1e6} {
		if !p.MatchValue(map[string]any{"n": n}) {
			t.Errorf("%T does not match", n)
		}
	}
	if p.MatchValue(map[string]any{"n": struct{}{}}) {
		t.Error("what JSON has not matches")
	}
}

// The answers are EventBridge's, recorded by localstack's tests, but for those marked as ours.
func TestCompileRefuses(t *testing.T) {
	const at = "\n at [Source: (String)\"%s\"; line: 1, column: %d]"
	for _, test := range []struct {
		pattern string
		reason  string
		column  int  // 0: no place
		twice   bool // the place stands twice
	}{
		{`{"int": 42}`, `"int" must be an object or an array`, 11, false},
		{`{"string": "my-value"}`, `"string" must be an object or an array`, 13, false},
		{`{"source": ["aws.health"], "detail": {}}`, `Empty objects are not allowed`, 40, false},
		{`{"resources": []}`, `Empty arrays are not allowed`, 17, false},
		{`["not", "a", "dict", "but valid json"]`, `Filter is not an object`, 2, false},
		{`{'bad': 'quotation'}`, `Unexpected character (''' (code 39)): was expecting double-quote to start field name`, 2, false},
		{`this is valid json but not a dict`, `Unrecognized token 'this': was expecting (JSON String, Number, Array, Object or token 'null', 'true' or 'false')`, 5, false},
		{`{"not": closed mark"`, `Unrecognized token 'closed': was expecting (JSON String, Number, Array, Object or token 'null', 'true' or 'false')`, 15, false},
		{`{"my_key": [{"EXISTS": true}]}`, `Unrecognized match type EXISTS`, 28, false},
		{`{"detail": {"equal": [{"NUMERIC": ["=", 5]}]}}`, `Unrecognized match type NUMERIC`, 36, false},
		{`{"detail": {"c-count": [{"numeric": [">", 0, ">", 0]}]}}`, `Bad numeric range operator: >`, 49, false},
		{`{"detail": {"c-count": [{"numeric": [">", 0, "<"]}]}}`, `Value of < must be numeric`, 50, false},
		{`{"time": [{"prefix": 123}]}`, `prefix match pattern must be a string`, 25, false},
		{`{"time": [{"prefix": ["2022-07-13"]}]}`, `prefix match pattern must be a string`, 23, false},
		{`{"FileName": [{"suffix": 123}]}`, `suffix match pattern must be a string`, 29, false},
		{`{"FileName": [{"suffix": [".png"]}]}`, `suffix match pattern must be a string`, 27, false},
		{`{"EventBusArn": [{"wildcard": 123}]}`, `wildcard match pattern must be a string`, 34, false},
		{`{"EventBusArn": [{"wildcard": "a:**:b"}]}`, `Consecutive wildcard characters at pos 3`, 39, false},
		{`{"detail-type": [{"equals-ignore-case": ["ec2 instance state-change notification"]}]}`, `equals-ignore-case match pattern must be a string`, 42, false},
		{`{"detail-type": [{"equals-ignore-case": {"prefix": "ec2"}}]}`, `equals-ignore-case match pattern must be a string`, 42, false},
		{`{"detail": {"state": [{"anything-but": {"equals-ignore-case": 123}}]}}`, `Inside anything-but/equals-ignore-case list, number|start|null|boolean is not supported.`, 66, false},
		{`{"detail": {"state": [{"anything-but": {"equals-ignore-case": [123, 456]}}]}}`, `Inside anything-but/equals-ignore-case list, number|start|null|boolean is not supported.`, 67, true},
		{`{"detail": {"state": [{"anything-but": {"wildcard": [123, "*/dir/*"]}}]}}`, `wildcard match pattern must be a string`, 57, true},
		{`{"detail": {"FilePath": [{"anything-but": {"wildcard": 123}}]}}`, `wildcard match pattern must be a string`, 59, false},
		{`{"detail": {"FileName": [{"anything-but": {"suffix": [123, ".txt"]}}]}}`, `prefix/suffix match pattern must be a string`, 58, true},
		{`{"detail": {"FileName": [{"anything-but": {"suffix": 123}}]}}`, `prefix/suffix match pattern must be a string`, 57, false},
		{`{"detail": {"state": [{"anything-but": {"prefix": [123, "test"]}}]}}`, `prefix/suffix match pattern must be a string`, 55, true},
		{`{"detail": {"FileName": [{"anything-but": {"prefix": {"equals-ignore-case": "file"}}}]}}`, `Value of anything-but must be an array or single string/number value.`, 55, false},
		{`{"detail": {"sourceIPAddress": [{"cidr": ["bad-type"]}]}}`, `prefix match pattern must be a string`, 43, false},
		{`{"a": [{"cidr": "bad-ip"}]}`, `Malformed CIDR, one '/' required`, 0, false},
		{`{"a": [{"cidr": "10.0.0.0/xx"}]}`, `Malformed CIDR, mask bits must be an integer`, 0, false},
		{`{"a": [{"cidr": "xx.11.xx/8"}]}`, `Nonstandard IP address: xx.11.xx`, 0, false},
		{`{"a": [{"cidr": "xxxx:db8:1234:1a00::/64"}]}`, `Nonstandard IP address: xxxx:db8:1234:1a00::`, 0, false},

		// From the matcher's source.
		{`{"a": [{"cidr": "300.0.0.0/8"}]}`, `Invalid IP address: 300.0.0.0`, 0, false},
		{`{"a": [{"cidr": "10.0.0.0/-1"}]}`, `Malformed CIDR, mask bits must not be negative`, 0, false},
		{`{"a": [{"cidr": "10.0.0.0/33"}]}`, `IPv4 mask bits must be < 33`, 0, false},
		{`{"a": [[]]}`, `Match value must be String, number, true, false, or null`, 9, false},
		{`{"a": [{}]}`, `Match expression name not found`, 10, false},
		{`{"a": [{"prefix": "a", "suffix": "b"}]}`, `Only one key allowed in match expression`, 35, false},
		{`{"a": [{"prefix": {}}]}`, `Prefix expression name not found`, 21, false},
		{`{"a": [{"suffix": {"prefix": "a"}}]}`, `Unsupported suffix pattern: prefix`, 31, false},
		{`{"a": [{"exists": "true"}]}`, `exists match pattern must be either true or false.`, 20, false},
		{`{"a": [{"exists": null}]}`, `exists match pattern must be either true or false.`, 23, false},
		{`{"a": [{"numeric": 5}]}`, `Value of numeric must be an array.`, 21, false},
		{`{"a": [{"numeric": []}]}`, `Invalid member in numeric match: ]`, 22, false},
		{`{"a": [{"numeric": [5]}]}`, `Invalid member in numeric match: 5`, 22, false},
		{`{"a": [{"numeric": ["~", 5]}]}`, `Unrecognized numeric range operator: ~`, 24, false},
		{`{"a": [{"numeric": ["=", "5"]}]}`, `Value of equals must be numeric`, 27, false},
		{`{"a": [{"numeric": ["<", 5, ">", 1]}]}`, `Too many elements in numeric expression`, 30, false},
		{`{"a": [{"numeric": [">", 5, "<", 5]}]}`, `Bottom must be less than top`, 36, false},
		{`{"a": [{"anything-but": null}]}`, `Value of anything-but must be an array or single string/number value.`, 29, false},
		{`{"a": [{"anything-but": []}]}`, `Inside anything but list, either all values are number or string, mixed type is not supported`, 27, false},
		{`{"a": [{"anything-but": ["a", 1]}]}`, `Inside anything but list, either all values are number or string, mixed type is not supported`, 33, false},
		{`{"a": [{"anything-but": ["a", null]}]}`, `Inside anything but list, start|null|boolean is not supported.`, 35, true},
		{`{"a": [{"anything-but": {"exists": true}}]}`, `Unsupported anything-but pattern: exists`, 40, false},
		{`{"a": [{"anything-but": {"prefix": ""}}]}`, `Null prefix/suffix not allowed`, 38, false},
		{`{"a": [{"wildcard": "a\\b"}]}`, `Invalid escape character at pos 2`, 27, false},
		{`{"$or": {"a": ["b"]}}`, `It must be an Array followed with $or.`, 10, false},
		{`{"$or": ["a", "b"]}`, `Only JSON object is allowed in array of $or relationship.`, 11, false},
		{`{"$or": [{"a": ["b"]}]}`, `There must have at least 2 Objects in $or relationship.`, 23, false},
		{`{"$or": [{"prefix": ["b"]}, {"a": [1]}]}`, `prefix is Ruler reserved fieldName which cannot be used inside $or.`, 22, false},

		// Ours.
		{`{"a": [1]} x`, `Unexpected character ('x' (code 120)): was expecting end of the pattern`, 12, false},
		{`{"a": [1`, `Unexpected end-of-input: was expecting comma to separate Array entries`, 9, false},
		{``, `Unexpected end-of-input: was expecting a value`, 1, false},
		{`{"a": [01]}`, `Unrecognized token '01': was expecting (JSON String, Number, Array, Object or token 'null', 'true' or 'false')`, 10, false},
		{`{"a": [{"numeric": ["=", 1e99]}]}`, notComparable, 31, false},
		{`{"a": [{"anything-but": 1e99}]}`, notComparable, 0, false},
	} {
		_, err := Compile([]byte(test.pattern))
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("%s: %v", test.pattern, err)
			continue
		}
		want := test.reason
		if test.column > 0 {
			place := fmt.Sprintf(at, test.pattern, test.column)
			want += place
			if test.twice {
				want += place
			}
		}
		if e.Reason != want {
			t.Errorf("%s:\n got %s\nwant %s", test.pattern, e.Reason, want)
		}
	}
}

func TestCompileKeepsItsLimits(t *testing.T) {
	or := func(n int) string { // 10 objects each
		objects := strings.TrimSuffix(strings.Repeat(`{"a":[1]},`, n), ",")
		return `"$or":[` + objects + `]`
	}
	within := `{"x":{` + or(10) + `},"y":{` + or(10) + `},"z":{` + or(10) + `}}`
	for name, test := range map[string]struct {
		pattern, reason string
	}{
		"as many combinations as may be": {within, ""},
		"too many combinations":          {`{"w":{` + or(2) + `},` + within[1:], "Rules with more than 1000 combinations"},
		"too many in two":                {`{"a":{` + or(400) + `},"b":{` + or(3) + `}}`, "Rules with more than 1000 combinations"},
		"as long as may be":              {`{"a":["` + strings.Repeat("é", MaxSize-10) + `"]}`, ""},
		"too long":                       {`{"a":["` + strings.Repeat("é", MaxSize-9) + `"]}`, "longer than 4096"},
		"too deep":                       {strings.Repeat(`[`, 2000), "nesting depth (1001) exceeds the maximum allowed (1000)"},
		"too many fields in all":         {`{` + strings.Repeat(`"b":[1],`, 300) + within[1:], "Rules with more than 100000 fields"},
	} {
		_, err := Compile([]byte(test.pattern))
		if (err == nil) != (test.reason == "") || err != nil && !strings.Contains(err.Error(), test.reason) {
			t.Errorf("%s (%d): %.200v", name, len(test.pattern), err)
		}
	}
}

func TestPlaceNamesLinesAndCutsLongTexts(t *testing.T) {
	_, err := Compile([]byte("{\n  \"é\": \"" + strings.Repeat("x", 600) + "\"}"))
	if err == nil || !strings.HasSuffix(err.Error(), "\"[truncated 112 chars]; line: 2, column: 9]") {
		t.Errorf("%v", err)
	}
}

func TestNumbersInMillionths(t *testing.T) {
	for text, want := range map[string]string{
		"0": "0", "-0.0e7": "0", "0e99999999999": "0", "1": "1000000", "-1.5": "-1500000", "1e-6": "1", "0.000001": "1", "1.0000000": "1000000",
		"5e9": "5000000000000000", "5000000000.000000": "5000000000000000", "-5E+9": "-5000000000000000", "12345678.9e1": "123456789000000",
		"5000000000.000001": "no", "5e10": "no", "1e-7": "no", "1e99999999999": "no", "1e-99999999999": "no", "123456789012345678901234567890": "no",
	} {
		micros, ok := toMicros(text)
		got := fmt.Sprint(micros)
		if !ok {
			got = "no"
		}
		if got != want {
			t.Errorf("%s: %s, not %s", text, got, want)
		}
	}
}

func FuzzCompileAndMatch(f *testing.F) {
	f.Add(`{"source": ["aws.ec2"], "$or": [{"a": [{"numeric": [">", 1]}]}, {"b.c": [{"exists": false}]}]}`, instance)
	f.Add(`{"a": [{"anything-but": {"wildcard": ["*a*", "b\\*"]}}], "a.b": [{"cidr": "::/0"}]}`, `{"a": [[{"b": "::1"}], "c"], "a.b": {"": null}}`)
	f.Add(`{"a": [{"prefix": {"equals-ignore-case": "é"}}, {"suffix": {"equals-ignore-case": "K"}}, 1e5, null, true]}`, `{"a": ["\u212a", 1e5, "É"]}`)
	f.Add(`{"": {"": [""]}}`, `{".": ""}`)
	f.Fuzz(func(t *testing.T, pattern, event string) {
		p, err := Compile([]byte(pattern))
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Reason == "" {
				t.Fatalf("%v", err)
			}
			return
		}
		if len(p.rules) == 0 || len(p.rules) > MaxCombinations {
			t.Fatalf("%d rules", len(p.rules))
		}
		value, ok := Decode([]byte(event))
		if got := p.Match([]byte(event)); got != (ok && p.MatchValue(value)) {
			t.Fatal("an event matches and does not")
		}
	})
}

func FuzzWildcard(f *testing.F) {
	f.Add("a*b*c", "aXbYc")
	f.Add(`\**\\`, `*x\`)
	f.Add("ab*ba", "aba")
	f.Fuzz(func(t *testing.T, text, s string) {
		parts, wrong, _ := parseWildcard(text)
		if wrong != "" {
			return
		}
		quoted := make([]string, len(parts))
		for i, part := range parts {
			quoted[i] = regexp.QuoteMeta(part)
		}
		re, err := regexp.Compile(`(?s)\A` + strings.Join(quoted, ".*") + `\z`)
		if err != nil {
			return // not UTF-8
		}
		m := wildcard(parts)
		if got := m.match(&scalar{kind: 's', text: s}); got != re.MatchString(s) {
			t.Errorf("%q with %q: %v", text, s, got)
		}
	})
}

// What keeps backtracking matchers busy for ages is a matter of one pass here.
func TestHardWildcards(t *testing.T) {
	p, err := Compile([]byte(`{"a": [{"wildcard": "` + strings.Repeat("a*", 1000) + `b"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if p.MatchValue(map[string]any{"a": strings.Repeat("a", 1<<20)}) {
		t.Error("matches without a b")
	}
}

func BenchmarkMatch(b *testing.B) {
	for name, pattern := range map[string]string{
		"literal":  `{"source": ["aws.ec2"], "detail": {"state": ["initializing", "running"]}}`,
		"no match": `{"source": ["aws.s3"], "detail": {"state": ["running"]}}`,
		"complex": `{"time": [{"prefix": "2017-10-02"}], "detail": {"state": [{"anything-but": "initializing"}],
			"c-count": [{"numeric": [">", 0, "<=", 5]}], "x-limit": [{"anything-but": [100, 200, 300]}], "source-ip": [{"cidr": "10.0.0.0/8"}],
			"$or": [{"file": [{"wildcard": "/home/*/*.png"}]}, {"employees": {"first": ["Anna"], "last": ["Smith"], "age": [{"exists": false}]}}]}}`,
	} {
		p, err := Compile([]byte(pattern))
		if err != nil {
			b.Fatal(err)
		}
		event, _ := Decode([]byte(instance))
		b.Run(name+"/decoded", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p.MatchValue(event)
			}
		})
		b.Run(name+"/text", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p.Match([]byte(instance))
			}
		})
	}
}
