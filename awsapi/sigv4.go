package awsapi

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"thaw"
)

// Verifier checks Signature Version 4 on requests, in the Authorization header or in the query string of a presigned URL.
type Verifier struct {
	secret func(accessKey string) (secret string, ok bool)
	now    func() time.Time
}

// Signature Version 4 in AWS's specification: the algorithm's name, how far the clocks may differ, and how long a
// presigned URL may live.
const (
	algorithm     = "AWS4-HMAC-SHA256"
	maxSkew       = 5 * time.Minute
	maxPresigned  = 7 * 24 * time.Hour
	amzDateLayout = "20060102T150405Z"
	unsigned      = "UNSIGNED-PAYLOAD"
)

// NewVerifier makes a Verifier that asks secret for the secret key of an access key.
func NewVerifier(secret func(accessKey string) (secret string, ok bool)) *Verifier {
	return &Verifier{secret: secret, now: time.Now}
}

// Verify checks the signature and gives the access key that made it. Unless the request says UNSIGNED-PAYLOAD it reads
// the body, which must not exceed what Lambda accepts for a package, and leaves one in its place that can be read again;
// nothing of the body is read before the access key is known to exist and the date to be near.
//
// The errors are *thaw.Error: CodeMissingAuthentication, CodeIncompleteSignature, CodeUnrecognizedClient,
// CodeInvalidSignature, or CodeRequestEntityTooLarge.
func (v *Verifier) Verify(r *http.Request) (accessKey string, err error) {
	s, err := readSignature(r)
	if err != nil {
		return "", err
	}
	secret, ok := v.secret(s.accessKey)
	if !ok {
		return "", thaw.Errorf(thaw.CodeUnrecognizedClient, "The security token included in the request is invalid.")
	}
	if err := s.checkTime(v.now()); err != nil {
		return "", err
	}
	payload, err := payloadHash(r)
	if err != nil {
		return "", err
	}
	key := s.signingKey(secret)
	for _, p := range canonicalPaths(r.URL) {
		if hmac.Equal(sum(key, s.stringToSign(canonicalRequest(r, p, s, payload))), s.signature) {
			return s.accessKey, nil
		}
	}
	return "", thaw.Errorf(thaw.CodeInvalidSignature, "The request signature we calculated does not match the signature you provided. "+
		"Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")
}

// credential is the credential scope: AKID/20260102/eu-west-1/lambda/aws4_request.
type credential struct {
	accessKey, date, region, service string
}

func parseCredential(s string) (credential, bool) {
	parts := strings.Split(s, "/")
	if len(parts) < 5 || parts[len(parts)-1] != "aws4_request" {
		return credential{}, false
	}
	n := len(parts)
	c := credential{accessKey: strings.Join(parts[:n-4], "/"), date: parts[n-4], region: parts[n-3], service: parts[n-2]}
	return c, c.accessKey != ""
}

// claimedCredential is what a request says of itself, without proof.
func claimedCredential(r *http.Request) (credential, bool) {
	if fields, ok := authorizationFields(r.Header.Get("Authorization")); ok {
		return parseCredential(fields["Credential"])
	}
	if strings.Contains(r.URL.RawQuery, "X-Amz-Credential=") {
		return parseCredential(r.URL.Query().Get("X-Amz-Credential"))
	}
	return credential{}, false
}

// authorizationFields takes an Authorization header of Signature Version 4 apart; false when it is of another kind.
func authorizationFields(header string) (map[string]string, bool) {
	rest, ok := strings.CutPrefix(header, algorithm)
	if !ok || rest != "" && rest[0] != ' ' {
		return nil, false
	}
	fields := make(map[string]string, 3)
	for part := range strings.SplitSeq(rest, ",") {
		if name, value, ok := strings.Cut(strings.TrimSpace(part), "="); ok {
			fields[name] = value
		}
	}
	return fields, true
}

// signature is what a request says about how it was signed.
type signature struct {
	credential
	time      time.Time
	headers   []string // names, lower case, sorted
	signature []byte
	presigned bool
	expires   time.Duration // of a presigned URL
}

func readSignature(r *http.Request) (*signature, error) {
	header := r.Header.Get("Authorization")
	var query url.Values
	if header == "" {
		query, _ = url.ParseQuery(r.URL.RawQuery)
	}
	var fields map[string]string
	s := new(signature)
	date := r.Header.Get("X-Amz-Date")
	switch {
	case header != "":
		var ok bool
		if fields, ok = authorizationFields(header); !ok {
			return nil, thaw.Errorf(thaw.CodeIncompleteSignature, "Unsupported AWS 'algorithm' in the Authorization header: only %s is.", algorithm)
		}
	case query.Get("X-Amz-Algorithm") == algorithm:
		s.presigned = true
		fields = map[string]string{
			"Credential": query.Get("X-Amz-Credential"), "SignedHeaders": query.Get("X-Amz-SignedHeaders"), "Signature": query.Get("X-Amz-Signature"),
		}
		date = query.Get("X-Amz-Date")
		seconds, err := strconv.ParseInt(query.Get("X-Amz-Expires"), 10, 32)
		s.expires = time.Duration(seconds) * time.Second
		if err != nil || s.expires < time.Second || s.expires > maxPresigned {
			return nil, thaw.Errorf(thaw.CodeIncompleteSignature, "X-Amz-Expires must be a number of seconds from 1 to %d.", int(maxPresigned.Seconds()))
		}
	default:
		return nil, thaw.Errorf(thaw.CodeMissingAuthentication, "Missing Authentication Token")
	}
	var missing []string
	for _, name := range []string{"Credential", "Signature", "SignedHeaders"} {
		if fields[name] == "" {
			missing = append(missing, "Authorization header requires '"+name+"' parameter.")
		}
	}
	if date == "" {
		if date = r.Header.Get("Date"); date == "" {
			missing = append(missing, "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.")
		}
	}
	if len(missing) > 0 {
		return nil, thaw.Errorf(thaw.CodeIncompleteSignature, "%s", strings.Join(missing, " "))
	}
	return s, s.parse(fields, date)
}

func (s *signature) parse(fields map[string]string, date string) error {
	var ok bool
	if s.credential, ok = parseCredential(fields["Credential"]); !ok {
		return thaw.Errorf(thaw.CodeIncompleteSignature, "Credential must have at least 5 slash-delimited elements and end with aws4_request.")
	}
	var err error
	if s.time, err = time.Parse(amzDateLayout, date); err != nil {
		if s.time, err = http.ParseTime(date); err != nil {
			return thaw.Errorf(thaw.CodeIncompleteSignature, "Date must be in ISO-8601 'basic format'. Got '%s'.", date)
		}
	}
	if day := s.time.UTC().Format("20060102"); s.date != day {
		return thaw.Errorf(thaw.CodeInvalidSignature, "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '%s' != '%s'.", s.date, day)
	}
	if s.signature, err = hex.DecodeString(fields["Signature"]); err != nil || len(s.signature) != sha256.Size {
		return thaw.Errorf(thaw.CodeInvalidSignature, "Signature must be %d hexadecimal digits.", 2*sha256.Size)
	}
	s.headers = strings.Split(fields["SignedHeaders"], ";")
	if !slices.IsSorted(s.headers) || strings.ToLower(fields["SignedHeaders"]) != fields["SignedHeaders"] {
		return thaw.Errorf(thaw.CodeInvalidSignature, "SignedHeaders must be lower-case names in order.")
	}
	if !slices.Contains(s.headers, "host") {
		return thaw.Errorf(thaw.CodeInvalidSignature, "'Host' must be a 'SignedHeader' in the AWS Authorization.")
	}
	if !s.presigned && !slices.Contains(s.headers, "x-amz-date") && !slices.Contains(s.headers, "date") {
		return thaw.Errorf(thaw.CodeInvalidSignature, "'X-Amz-Date' or 'Date' must be a 'SignedHeader' in the AWS Authorization.")
	}
	return nil
}

// checkTime refuses a request from another time than now. A presigned URL is good until it expires.
func (s *signature) checkTime(now time.Time) error {
	oldest := now.Add(-maxSkew)
	if s.presigned {
		oldest = now.Add(-s.expires)
	}
	stamp := func(t time.Time) string { return t.UTC().Format(amzDateLayout) }
	switch {
	case s.time.Before(oldest):
		return thaw.Errorf(thaw.CodeInvalidSignature, "Signature expired: %s is now earlier than %s (%s - %s)",
			stamp(s.time), stamp(oldest), stamp(now), minutes(now.Sub(oldest)))
	case s.time.After(now.Add(maxSkew)):
		return thaw.Errorf(thaw.CodeInvalidSignature, "Signature not yet current: %s is still later than %s (%s + %s)",
			stamp(s.time), stamp(now.Add(maxSkew)), stamp(now), minutes(maxSkew))
	}
	return nil
}

func minutes(d time.Duration) string {
	if d < time.Minute {
		return strconv.Itoa(int(d.Seconds())) + " sec."
	}
	return strconv.Itoa(int(d.Minutes())) + " min."
}

func (s *signature) scope() string {
	return s.date + "/" + s.region + "/" + s.service + "/aws4_request"
}

func (s *signature) signingKey(secret string) []byte {
	key := sum([]byte("AWS4"+secret), s.date)
	key = sum(key, s.region)
	key = sum(key, s.service)
	return sum(key, "aws4_request")
}

func (s *signature) stringToSign(canonical string) string {
	digest := sha256.Sum256([]byte(canonical))
	return algorithm + "\n" + s.time.UTC().Format(amzDateLayout) + "\n" + s.scope() + "\n" + hex.EncodeToString(digest[:])
}

func sum(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// payloadHash is the last line of the canonical request. A digest that the request declares is checked against the body.
func payloadHash(r *http.Request) (string, error) {
	declared := r.Header.Get("X-Amz-Content-Sha256")
	if declared == "" && strings.Contains(r.URL.RawQuery, "X-Amz-Content-Sha256=") {
		declared = r.URL.Query().Get("X-Amz-Content-Sha256")
	}
	if declared == unsigned {
		return unsigned, nil
	}
	if strings.HasPrefix(declared, "STREAMING-") {
		return "", thaw.Errorf(thaw.CodeInvalidSignature, "The payload is signed as %s; only a whole payload or %s is supported.", declared, unsigned)
	}
	text, err := readBody(nil, r, maxCodeBody)
	if errors.Is(err, errTooLarge) {
		return "", thaw.Errorf(thaw.CodeRequestEntityTooLarge, "Request must be smaller than %d bytes", maxCodeBody)
	}
	if err != nil {
		return "", err
	}
	r.Body = newBody(text)
	digest := sha256.Sum256(text)
	computed := hex.EncodeToString(digest[:])
	if declared != "" && declared != computed {
		return "", thaw.Errorf(thaw.CodeInvalidSignature, "The provided 'x-amz-content-sha256' header does not match what was computed.")
	}
	return computed, nil
}

func canonicalRequest(r *http.Request, canonicalPath string, s *signature, payload string) string {
	var b strings.Builder
	b.WriteString(r.Method)
	b.WriteByte('\n')
	b.WriteString(canonicalPath)
	b.WriteByte('\n')
	b.WriteString(canonicalQuery(r.URL.RawQuery))
	b.WriteByte('\n')
	for _, name := range s.headers {
		b.WriteString(name)
		b.WriteByte(':')
		b.WriteString(canonicalHeader(r, name))
		b.WriteByte('\n')
	}
	b.WriteByte('\n')
	b.WriteString(strings.Join(s.headers, ";"))
	b.WriteByte('\n')
	b.WriteString(payload)
	return b.String()
}

// canonicalPaths are the forms in which clients sign a path. It is escaped once more than on the wire, except for S3, and
// some clients first resolve empty and dotted segments.
func canonicalPaths(u *url.URL) []string {
	wire := u.EscapedPath()
	if wire == "" {
		wire = "/"
	}
	paths := []string{escape(wire, true)}
	if clean := path.Clean(wire); clean != wire {
		if strings.HasSuffix(wire, "/") && clean != "/" {
			clean += "/"
		}
		if again := escape(clean, true); again != paths[0] {
			paths = append(paths, again)
		}
	}
	return paths
}

func canonicalQuery(raw string) string {
	if raw == "" {
		return ""
	}
	var pairs [][2]string
	for part := range strings.SplitSeq(raw, "&") {
		if part == "" {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		name, value = reescape(name), reescape(value)
		if name != "X-Amz-Signature" {
			pairs = append(pairs, [2]string{name, value})
		}
	}
	slices.SortFunc(pairs, func(a, b [2]string) int {
		if d := strings.Compare(a[0], b[0]); d != 0 {
			return d
		}
		return strings.Compare(a[1], b[1])
	})
	var b bytes.Buffer
	for i, p := range pairs {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(p[0])
		b.WriteByte('=')
		b.WriteString(p[1])
	}
	return b.String()
}

func reescape(s string) string {
	if plain, err := url.QueryUnescape(s); err == nil {
		s = plain
	}
	return escape(s, false)
}

// escape is the percent-encoding of RFC 3986, in upper case, as the specification asks for.
func escape(s string, keepSlash bool) string {
	var b strings.Builder
	b.Grow(len(s) + 16)
	for i := range len(s) {
		c := s[i]
		switch {
		case 'A' <= c && c <= 'Z', 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_', c == '.', c == '~', c == '/' && keepSlash:
			b.WriteByte(c)
		default:
			b.WriteByte('%')
			b.WriteByte("0123456789ABCDEF"[c>>4])
			b.WriteByte("0123456789ABCDEF"[c&15])
		}
	}
	return b.String()
}

// canonicalHeader joins a header's values, with runs of blanks as one. Go's server keeps two headers elsewhere.
func canonicalHeader(r *http.Request, name string) string {
	switch name {
	case "host":
		return r.Host
	case "content-length":
		return strconv.FormatInt(r.ContentLength, 10)
	case "transfer-encoding":
		return strings.Join(r.TransferEncoding, ",")
	}
	values := slices.Clone(r.Header.Values(name))
	for i, v := range values {
		values[i] = strings.Join(strings.FieldsFunc(v, func(c rune) bool { return c == ' ' || c == '\t' }), " ")
	}
	return strings.Join(values, ",")
}
