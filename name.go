package thaw

import (
	"cmp"
	"regexp"
	"strings"
)

// FunctionRef is a function as a caller named it. Account and Region are empty where the caller left them out.
type FunctionRef struct {
	Account   string
	Region    string
	Name      string
	Qualifier string // empty, Latest, a version number or an alias
}

// The forms of a function's name in the Lambda API's model: name, name:qualifier, account:function:name and ARN.
var refPattern = regexp.MustCompile(`^(?:arn:aws[a-zA-Z-]*:lambda:)?(?:([a-z]{2}(?:-gov|-iso[a-z]?)?-[a-z]+-\d):)?(?:(\d{12}):)?(?:function:)?([a-zA-Z0-9_-]+)(?::(\$LATEST|[a-zA-Z0-9_-]+))?$`)

// ParseFunctionRef takes a function name apart: a plain name, name:qualifier, a partial ARN
// (123456789012:function:name) or a full ARN, each with or without qualifier. ok is false when s has none of these
// forms; the length of the name is not judged here.
func ParseFunctionRef(s string) (ref FunctionRef, ok bool) {
	if isPlainName(s) {
		return FunctionRef{Name: s}, true
	}
	m := refPattern.FindStringSubmatch(s)
	if m == nil {
		return FunctionRef{}, false
	}
	return FunctionRef{Region: m[1], Account: m[2], Name: m[3], Qualifier: m[4]}, true
}

// isPlainName keeps the regular expression off the request path of callers that pass the bare name.
func isPlainName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return s != ""
}

// FunctionARN is the ARN of a function, unqualified when qualifier is empty.
func (a Account) FunctionARN(name, qualifier string) string {
	var b strings.Builder
	b.Grow(64 + len(name) + len(qualifier))
	b.WriteString("arn:aws:lambda:")
	b.WriteString(a.Region)
	b.WriteByte(':')
	b.WriteString(a.ID)
	b.WriteString(":function:")
	b.WriteString(name)
	if qualifier != "" {
		b.WriteByte(':')
		b.WriteString(qualifier)
	}
	return b.String()
}

// LogGroupName is the CloudWatch Logs group of the version: its own setting, or AWS's default.
func (v *Version) LogGroupName() string {
	if v.LogGroup != "" {
		return v.LogGroup
	}
	return "/aws/lambda/" + v.Function
}

// CheckOwned refuses a function reference that names another account or region, in the words that AWS has for a caller
// of operation (InvokeFunction, GetFunction) without permission there.
func (a Account) CheckOwned(operation string, ref FunctionRef) error {
	if ref.Account != "" && ref.Account != a.ID {
		arn := Account{ID: ref.Account, Region: cmp.Or(ref.Region, a.Region)}.FunctionARN(ref.Name, ref.Qualifier)
		return Errorf(CodeAccessDenied, "User: arn:aws:iam::%s:root is not authorized to perform: lambda:%s on resource: %s because no resource-based policy allows the lambda:%s action", a.ID, operation, arn, operation)
	}
	if ref.Region != "" && ref.Region != a.Region {
		return Errorf(CodeResourceNotFound, "Functions from '%s' are not reachable in this region ('%s')", ref.Region, a.Region)
	}
	return nil
}
