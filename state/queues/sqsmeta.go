package queues

import (
	"crypto/md5" //nolint:gosec // SQS's own choice: a checksum that its clients verify, not a secret
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"maps"
	"slices"
	"strings"
)

// SQSMeta is the Meta of messages in queues that users have: what a message of SQS has beside its body.
type SQSMeta struct {
	// Attributes are the message attributes by name, System the message system attributes that a sender may set:
	// AWSTraceHeader.
	Attributes map[string]SQSAttribute `json:"attributes,omitempty"`
	System     map[string]SQSAttribute `json:"system,omitempty"`
	// Sender is the SenderId attribute.
	Sender string `json:"sender,omitempty"`
}

// SQSAttribute is one message attribute. Its type is String, Number or Binary, with a label after a dot if the sender
// likes; only of Binary does Binary hold the value, otherwise String.
type SQSAttribute struct {
	Type   string `json:"type"`
	String string `json:"string,omitempty"`
	Binary []byte `json:"binary,omitempty"`
}

// IsBinary reports where the value is.
func (a SQSAttribute) IsBinary() bool {
	return a.Type == "Binary" || strings.HasPrefix(a.Type, "Binary.")
}

// ParseSQSMeta reads the Meta of a message. None is an SQSMeta without anything: whoever sends from within the platform
// need not make one.
func ParseSQSMeta(meta []byte) (SQSMeta, error) {
	var m SQSMeta
	if len(meta) == 0 {
		return m, nil
	}
	if err := json.Unmarshal(meta, &m); err != nil {
		return m, fmt.Errorf("meta of a message: %w", err)
	}
	return m, nil
}

// Encode writes the Meta of a message.
func (m SQSMeta) Encode() []byte {
	text, _ := json.Marshal(m) // strings, bytes and maps of them: nothing that can fail
	return text
}

// MD5OfAttributes is the digest that SQS calls MD5OfMessageAttributes, in hexadecimal; empty without attributes.
func (m SQSMeta) MD5OfAttributes() string { return MD5OfSQSAttributes(m.Attributes) }

// MD5OfSystem is the digest that SQS calls MD5OfMessageSystemAttributes, in hexadecimal; empty without any.
func (m SQSMeta) MD5OfSystem() string { return MD5OfSQSAttributes(m.System) }

// MD5OfSQSAttributes is SQS's digest of attributes, after "Calculating the MD5 message digest for message attributes" in
// its developer guide: in the order of their names, each one's name, type, a byte that tells text (1) from bytes (2),
// and value, all but the byte behind their length in four bytes, the highest first. Empty without attributes.
func MD5OfSQSAttributes(attributes map[string]SQSAttribute) string {
	if len(attributes) == 0 {
		return ""
	}
	digest := md5.New() //nolint:gosec // see the import
	for _, name := range slices.Sorted(maps.Keys(attributes)) {
		a := attributes[name]
		measured(digest, name)
		measured(digest, a.Type)
		if a.IsBinary() {
			digest.Write([]byte{2})
			measured(digest, string(a.Binary))
		} else {
			digest.Write([]byte{1})
			measured(digest, a.String)
		}
	}
	return hex.EncodeToString(digest.Sum(nil))
}

// measured writes a text behind its length.
func measured(to hash.Hash, text string) {
	to.Write(binary.BigEndian.AppendUint32(nil, uint32(len(text))))
	to.Write([]byte(text))
}

// IsHandle reports whether a text has the form of a receipt handle, of whichever queue and however old. It tells a stale
// handle from none, which SQS has different errors for.
func IsHandle(text string) bool {
	_, err := parseHandle(text)
	return err == nil
}
