package awsapi

import (
	"context"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/lambda"

	"thaw"
)

// echo registers an operation that answers with an empty output, and says whether it was called.
func echo[In, Out any](s *Service, operation string) *bool {
	called := new(bool)
	Handle(s, operation, func(context.Context, *In) (*Out, error) { *called = true; return nil, nil })
	return called
}

func newLambda(t testing.TB) *Service {
	t.Helper()
	s, err := New("lambda")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const createBody = `"FunctionName":"f","Role":"arn:aws:iam::123456789012:role/r","Code":{"ZipFile":"UEsFBg=="}`

func TestValidation(t *testing.T) {
	s := newLambda(t)
	echo[lambda.CreateFunctionInput, lambda.CreateFunctionOutput](s, "CreateFunction")
	echo[lambda.ListFunctionsInput, lambda.ListFunctionsOutput](s, "ListFunctions")
	echo[lambda.GetFunctionInput, lambda.GetFunctionOutput](s, "GetFunction")
	echo[lambda.InvokeInput, lambda.InvokeOutput](s, "Invoke")
	echo[lambda.CreateAliasInput, lambda.CreateAliasOutput](s, "CreateAlias")
	echo[lambda.AddPermissionInput, lambda.AddPermissionOutput](s, "AddPermission")

	const functions = "/2015-03-31/functions"
	long := strings.Repeat("a", 65)
	namespaced := `(arn:(aws[a-zA-Z-]*)?:lambda:)?([a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?(\d{12}:)?(function:)?([a-zA-Z0-9-_\.]+)(:(\$LATEST(\.PUBLISHED)?|[a-zA-Z0-9-_]+))?`
	tests := []struct {
		name, method, path, body string
		header                   [2]string
		code                     thaw.ErrorCode
		message                  string
	}{
		{name: "all required", method: "POST", path: functions, body: `{}`, code: thaw.CodeValidation,
			message: "3 validation errors detected: Value null at 'functionName' failed to satisfy constraint: Member must not be null; " +
				"Value null at 'role' failed to satisfy constraint: Member must not be null; Value null at 'code' failed to satisfy constraint: Member must not be null"},
		{name: "no body", method: "POST", path: functions, code: thaw.CodeValidation, message: "3 validation errors detected: "},
		{name: "null is absent", method: "POST", path: functions, body: `{"FunctionName":null,"Role":"arn:aws:iam::123456789012:role/r","Code":{}}`, code: thaw.CodeValidation,
			message: "1 validation error detected: Value null at 'functionName' failed to satisfy constraint: Member must not be null"},
		{name: "number too small", method: "POST", path: functions, body: `{` + createBody + `,"MemorySize":127}`, code: thaw.CodeValidation,
			message: "1 validation error detected: Value '127' at 'memorySize' failed to satisfy constraint: Member must have value greater than or equal to 128"},
		{name: "timeout", method: "POST", path: functions, body: `{` + createBody + `,"Timeout":901}`, code: thaw.CodeValidation,
			message: "1 validation error detected: Value '901' at 'timeout' failed to satisfy constraint: Member must have value less than or equal to 900"},
		{name: "memory", method: "POST", path: functions, body: `{` + createBody + `,"MemorySize":10241}`, code: thaw.CodeValidation,
			message: "1 validation error detected: Value '10241' at 'memorySize' failed to satisfy constraint: Member must have value less than or equal to 10240"},
		{name: "nested number too large", method: "POST", path: functions, body: `{` + createBody + `,"EphemeralStorage":{"Size":10241}}`, code: thaw.CodeValidation,
			message: "1 validation error detected: Value '10241' at 'ephemeralStorage.size' failed to satisfy constraint: Member must have value less than or equal to 10240"},
		{name: "nested required", method: "POST", path: functions, body: `{` + createBody + `,"EphemeralStorage":{}}`, code: thaw.CodeValidation,
			message: "1 validation error detected: Value null at 'ephemeralStorage.size' failed to satisfy constraint: Member must not be null"},
		{name: "enumeration", method: "POST", path: functions, body: `{` + createBody + `,"PackageType":"Rar"}`, code: thaw.CodeValidation,
			message: "1 validation error detected: Value 'Rar' at 'packageType' failed to satisfy constraint: Member must satisfy enum value set: [Zip, Image]"},
		{name: "enumeration in a list", method: "POST", path: functions, body: `{` + createBody + `,"Architectures":["x86"]}`, code: thaw.CodeValidation,
			message: "1 validation error detected: Value '[x86]' at 'architectures' failed to satisfy constraint: Member must satisfy constraint: [Member must satisfy enum value set: [x86_64, arm64], Member must not be null]"},
		{name: "null in a list", method: "POST", path: functions, body: `{` + createBody + `,"Architectures":[null]}`, code: thaw.CodeValidation,
			message: "Member must satisfy constraint: [Member must satisfy enum value set: [x86_64, arm64], Member must not be null]"},
		{name: "list too long", method: "POST", path: functions, body: `{` + createBody + `,"Architectures":["x86_64","arm64"]}`, code: thaw.CodeValidation,
			message: "1 validation error detected: Value '[x86_64, arm64]' at 'architectures' failed to satisfy constraint: Member must have length less than or equal to 1"},
		{name: "structure in a list", method: "POST", path: functions, body: `{` + createBody + `,"FileSystemConfigs":[{"LocalMountPath":"/mnt/x"}]}`, code: thaw.CodeValidation,
			message: "1 validation error detected: Value null at 'fileSystemConfigs.1.member.arn' failed to satisfy constraint: Member must not be null"},
		{name: "environment's names, and its values are secret", method: "POST", path: functions, body: `{` + createBody + `,"Environment":{"Variables":{"1A":"hush"}}}`, code: thaw.CodeValidation,
			message: "1 validation error detected: Value at 'environment.variables' failed to satisfy constraint: Map keys must satisfy constraint: [Member must satisfy regular expression pattern: [a-zA-Z]([a-zA-Z0-9_])+, Member must not be null]"},
		{name: "null in a map", method: "POST", path: functions, body: `{` + createBody + `,"Environment":{"Variables":{"AB":null}}}`, code: thaw.CodeValidation,
			message: "1 validation error detected: Value at 'environment.variables' failed to satisfy constraint: Map value must satisfy constraint: [Member must not be null]"},
		{name: "long plain name", method: "POST", path: functions, body: `{"FunctionName":"` + long + `","Role":"arn:aws:iam::123456789012:role/r","Code":{}}`, code: thaw.CodeInvalidParameterValue,
			message: "Value '" + long + "' at 'functionName' failed to satisfy constraint: Member must have length less than or equal to 64"},
		{name: "name of another form", method: "GET", path: functions + "/a%20b", code: thaw.CodeValidation,
			message: "1 validation error detected: Value 'a b' at 'functionName' failed to satisfy constraint: Member must satisfy regular expression pattern: " + namespaced},
		{name: "header", method: "POST", path: functions + "/f/invocations", header: [2]string{"X-Amz-Invocation-Type", "Now"}, code: thaw.CodeValidation,
			message: "1 validation error detected: Value 'Now' at 'invocationType' failed to satisfy constraint: Member must satisfy enum value set: [Event, RequestResponse, DryRun]"},
		{name: "query", method: "GET", path: functions + "?MaxItems=10001&FunctionVersion=NONE", code: thaw.CodeValidation,
			message: "2 validation errors detected: Value 'NONE' at 'functionVersion' failed to satisfy constraint: Member must satisfy enum value set: [ALL]; " +
				"Value '10001' at 'maxItems' failed to satisfy constraint: Member must have value less than or equal to 10000"},
		{name: "query that is no number", method: "GET", path: functions + "?MaxItems=abc", code: thaw.CodeSerialization, message: "'abc' can not be converted to Integer"},
		{name: "look-ahead", method: "POST", path: functions + "/f/aliases", body: `{"Name":"12","FunctionVersion":"1"}`, code: thaw.CodeValidation,
			message: `Value '12' at 'name' failed to satisfy constraint: Member must satisfy regular expression pattern: (?!^[0-9]+$)([a-zA-Z0-9-_]+)`},
		{name: "whole text", method: "POST", path: functions + "/f/aliases", body: `{"Name":"ok","FunctionVersion":"1\n"}`, code: thaw.CodeValidation,
			message: "Value '1\n' at 'functionVersion' failed to satisfy constraint"},
		{name: "several", method: "POST", path: functions + "/f/policy", body: `{}`, code: thaw.CodeValidation, message: "3 validation errors detected: "},

		{name: "number for text", method: "POST", path: functions, body: `{"FunctionName":1}`, code: thaw.CodeSerialization, message: "NUMBER_VALUE can not be converted to a String"},
		{name: "text for number", method: "POST", path: functions, body: `{"MemorySize":"128"}`, code: thaw.CodeSerialization, message: "STRING_VALUE can not be converted to an Integer"},
		{name: "boolean for number", method: "POST", path: functions, body: `{"MemorySize":true}`, code: thaw.CodeSerialization, message: "TRUE_VALUE can not be converted to an Integer"},
		{name: "number too large for its type", method: "POST", path: functions, body: `{"MemorySize":99999999999}`, code: thaw.CodeSerialization, message: "NUMBER_VALUE can not be converted to an Integer"},
		{name: "list for text", method: "POST", path: functions, body: `{"FunctionName":["f"]}`, code: thaw.CodeSerialization, message: "Start of list found where not expected"},
		{name: "map for text", method: "POST", path: functions, body: `{"FunctionName":{}}`, code: thaw.CodeSerialization, message: "Start of structure or map found where not expected."},
		{name: "text for list", method: "POST", path: functions, body: `{"Layers":"x"}`, code: thaw.CodeSerialization, message: "Expected list or null"},
		{name: "text for map", method: "POST", path: functions, body: `{"Tags":"x"}`, code: thaw.CodeSerialization, message: "Expected map or null"},
		{name: "text for structure", method: "POST", path: functions, body: `{"Code":"x"}`, code: thaw.CodeSerialization, message: "Expected null"},
		{name: "text for the whole", method: "POST", path: functions, body: `"x"`, code: thaw.CodeSerialization, message: "Expected null"},
		{name: "no base64", method: "POST", path: functions, body: `{"Code":{"ZipFile":"?"}}`, code: thaw.CodeSerialization, message: "can not be converted to a Blob"},
		{name: "no JSON", method: "POST", path: functions, body: `{"Code":`, code: thaw.CodeSerialization, message: "Could not parse request body into json: unexpected end of JSON input"},
		{name: "more than JSON", method: "POST", path: functions, body: `{}{}`, code: thaw.CodeSerialization, message: "Could not parse request body into json: "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(tt.method, tt.path, strings.NewReader(tt.body))
			if tt.header[0] != "" {
				r.Header.Set(tt.header[0], tt.header[1])
			}
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			code, message := restError(t, w)
			if code != tt.code || !strings.Contains(message, tt.message) {
				t.Errorf("got %s: %q\nwant %s: %q", code, message, tt.code, tt.message)
			}
			if w.Code != 400 {
				t.Errorf("status %d, want 400", w.Code)
			}
			if strings.Contains(w.Body.String(), "hush") {
				t.Error("a sensitive value was repeated")
			}
		})
	}
}

// TestValidationPasses holds what only looks wrong.
func TestValidationPasses(t *testing.T) {
	s := newLambda(t)
	called := echo[lambda.CreateFunctionInput, lambda.CreateFunctionOutput](s, "CreateFunction")
	for name, body := range map[string]string{
		"unknown members":         `{` + createBody + `,"New":{"a":[1,{"b":"}"}]},"Other":"\"","X":-1e5,"Y":[]}`,
		"white space":             " {\n" + strings.ReplaceAll(createBody, ",", " ,\t") + "\r\n} ",
		"escapes":                 `{` + strings.Replace(createBody, `"f"`, `"\u0066"`, 1) + `}`,
		"null members":            `{` + createBody + `,"Layers":null,"Tags":null,"Publish":null,"MemorySize":null,"VpcConfig":null}`,
		"empty list and map":      `{` + createBody + `,"Layers":[],"Tags":{}}`,
		"whole number, as double": `{` + createBody + `,"MemorySize":128.0}`,
		"number cut off":          `{` + createBody + `,"MemorySize":1.285e2}`,
		"runtime of tomorrow":     `{` + createBody + `,"Runtime":"python9.9"}`,
		"ARN of a long name's 64": `{` + strings.Replace(createBody, `"f"`, `"arn:aws:lambda:eu-west-1:123456789012:function:`+strings.Repeat("a", 64)+`"`, 1) + `}`,
		"empty optional text":     `{` + createBody + `,"Description":""}`,
	} {
		t.Run(name, func(t *testing.T) {
			*called = false
			w := httptest.NewRecorder()
			s.ServeHTTP(w, httptest.NewRequest("POST", "/2015-03-31/functions", strings.NewReader(body)))
			if w.Code != 201 || !*called {
				t.Errorf("status %d: %s", w.Code, w.Body)
			}
		})
	}
}

// TestEmptyNumber shows that AWS's habit of taking an empty query parameter as an absent one is kept.
func TestEmptyNumber(t *testing.T) {
	s := newLambda(t)
	called := echo[lambda.ListFunctionsInput, lambda.ListFunctionsOutput](s, "ListFunctions")
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest("GET", "/2015-03-31/functions/?MaxItems=", nil))
	if w.Code != 200 || !*called {
		t.Errorf("status %d: %s", w.Code, w.Body)
	}
}

// TestSecret goes through the places where a value can be sensitive.
func TestSecret(t *testing.T) {
	open, hidden := &node{shape: &shape{}}, &node{shape: &shape{Sensitive: true}}
	for name, tt := range map[string]struct {
		n    *node
		want bool
	}{
		"text":               {open, false},
		"sensitive text":     {hidden, true},
		"list":               {&node{shape: &shape{}, kind: kindList, elem: open}, false},
		"list of sensitive":  {&node{shape: &shape{}, kind: kindList, elem: hidden}, true},
		"map":                {&node{shape: &shape{}, kind: kindMap, key: open, elem: open}, false},
		"map with such keys": {&node{shape: &shape{}, kind: kindMap, key: hidden, elem: open}, true},
		"structure":          {&node{shape: &shape{}, kind: kindStructure}, true},
	} {
		if got := tt.n.secret(); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestQueryValidation(t *testing.T) {
	s, err := New("iam")
	if err != nil {
		t.Fatal(err)
	}
	echo[iam.CreateRoleInput, iam.CreateRoleOutput](s, "CreateRole")
	echo[iam.ListRolesInput, iam.ListRolesOutput](s, "ListRoles")
	tests := []struct{ name, form, code, message string }{
		{"required", "Action=CreateRole&RoleName=r", "ValidationError", "1 validation error detected: Value null at 'assumeRolePolicyDocument' failed to satisfy constraint: Member must not be null"},
		{"length", "Action=CreateRole&AssumeRolePolicyDocument=x&RoleName=" + strings.Repeat("r", 65), "ValidationError",
			"1 validation error detected: Value '" + strings.Repeat("r", 65) + "' at 'roleName' failed to satisfy constraint: Member must have length less than or equal to 64"},
		{"characters", "Action=CreateRole&AssumeRolePolicyDocument=x&RoleName=a%2Fb", "ValidationError",
			"The specified value for roleName is invalid. It must contain only alphanumeric characters and/or the following: +=,.@_-"},
		{"in a list", "Action=CreateRole&AssumeRolePolicyDocument=x&RoleName=r&Tags.member.1.Key=k", "ValidationError",
			"1 validation error detected: Value null at 'tags.1.member.value' failed to satisfy constraint: Member must not be null"},
		{"number", "Action=ListRoles&MaxItems=abc", "MalformedInput", "'abc' can not be converted to Integer"},
		{"range", "Action=ListRoles&MaxItems=0", "ValidationError", "1 validation error detected: Value '0' at 'maxItems' failed to satisfy constraint: Member must have value greater than or equal to 1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest("POST", "/", strings.NewReader(tt.form))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			code, message := queryError(t, w)
			if w.Code != 400 || code != tt.code || message != tt.message {
				t.Errorf("got %d %s: %s\nwant %s: %s", w.Code, code, message, tt.code, tt.message)
			}
		})
	}
}

func TestPatterns(t *testing.T) {
	for name := range models {
		m, err := models[name]()
		if err != nil {
			t.Fatal(err)
		}
		for shapeName, s := range m.Shapes {
			func() {
				defer func() {
					if p := recover(); p != nil {
						t.Errorf("%s.%s: %v", name, shapeName, p)
					}
				}()
				compilePattern(s.Pattern)
			}()
		}
	}
	tests := []struct {
		pattern, text string
		want          bool
	}{
		{`[a-z]+`, "abc", true},
		{`[a-z]+`, "abc1", false},
		{`[a-z]+`, "abc\n", false},
		{`a|b`, "ab", false},
		{`[\u0009\u000A\u000D\u0020-\u00FF]+`, "{\n\t\"é\": 1}", true},
		{`[\u0009\u000A\u000D\u0020-\u00FF]+`, "€", false},
		{`[\u0020-\u007E\uE000-\uFFFD\u10000-\u10FFFF]+`, "a\U0001F600", true},
		{`((?!^\d+$)^[0-9a-zA-Z-_]+$)`, "123", false},
		{`((?!^\d+$)^[0-9a-zA-Z-_]+$)`, "123a", true},
		{`(?!^[0-9]+$)([a-zA-Z0-9-_]+)`, "7", false},
		{`(?!^[0-9]+$)([a-zA-Z0-9-_]+)`, "live", true},
		{`[0-9A-Za-z\.\-_]*(?<!\.)`, "a.b", true},
		{`[0-9A-Za-z\.\-_]*(?<!\.)`, "a.", false},
		{`[0-9A-Za-z\.\-_]*(?<!\.)`, "", true},
		{`(^(?!(system\x2e)))(^[_a-zA-Z0-9])([^$]*)`, "system.x", false},
		{`(^(?!(system\x2e)))(^[_a-zA-Z0-9])([^$]*)`, "systemx", true},
		{`[\u0020-\uD7FF\uE000-\uFFFD\uD800\uDC00-\uDBFF\uDFFF\r\n\t]*`, "a é \U0001F600\n", true},
		{`[\u0020-\uD7FF\uE000-\uFFFD\uD800\uDC00-\uDBFF\uDFFF\r\n\t]*`, "a\x00", false},
		{`\p{Print}+`, "a b~", true},
		{`\p{Print}+`, "é", false},
		{`(?!((^[ ]+.*)|(.*([\u0000-\u001f]|[\u007f-\u009f]|[:/|])+.*)|(.*[ ]+$))).+`, "my action", true},
		{`(?!((^[ ]+.*)|(.*([\u0000-\u001f]|[\u007f-\u009f]|[:/|])+.*)|(.*[ ]+$))).+`, " a", false},
		{`(?!((^[ ]+.*)|(.*([\u0000-\u001f]|[\u007f-\u009f]|[:/|])+.*)|(.*[ ]+$))).+`, "a ", false},
		{`(?!((^[ ]+.*)|(.*([\u0000-\u001f]|[\u007f-\u009f]|[:/|])+.*)|(.*[ ]+$))).+`, "a:b", false},
	}
	for _, tt := range tests {
		if got := compilePattern(tt.pattern).match(tt.text); got != tt.want {
			t.Errorf("%s on %q: %v, want %v", tt.pattern, tt.text, got, tt.want)
		}
	}
}

// TestManyViolations shows that a flood of failures does not become a flood of text.
func TestManyViolations(t *testing.T) {
	s := newLambda(t)
	n, err := s.binder.bind("CreateFunctionRequest", reflect.TypeFor[lambda.CreateFunctionInput]())
	if err != nil {
		t.Fatal(err)
	}
	var in lambda.CreateFunctionInput
	body := `{"FileSystemConfigs":[` + strings.Repeat(`{},`, 50) + `{}]}`
	nulls, err := decodeJSON([]byte(body), n, reflect.ValueOf(&in).Elem())
	if err != nil {
		t.Fatal(err)
	}
	err = validate("lambda", "CreateFunction", n, reflect.ValueOf(&in).Elem(), nulls)
	if got := strings.Count(err.Error(), "failed to satisfy"); got != maxViolations {
		t.Errorf("%d violations told, want %d", got, maxViolations)
	}
}
