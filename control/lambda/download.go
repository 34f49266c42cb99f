package lambda

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"thaw"
	"thaw/state"
)

// DownloadPath is where the handler of Downloads is to be mounted: the links of GetFunction begin with it.
const DownloadPath = "/_thaw/code/"

// linkLife is how long a link of GetFunction works, after the documentation of its Location.
const linkLife = 10 * time.Minute

// location makes a link to the package of v. Whoever has the link may fetch that package and no other until it expires.
func (a *API) location(v *thaw.Version) string { return a.link(v.Function, v.Code.SHA256) }

// link is location for the package of what has this name: a function, or a layer behind "layer:".
func (a *API) link(name, digest string) string {
	expires := strconv.FormatInt(a.now().Add(linkLife).Unix(), 10)
	q := url.Values{"sha256": {digest}, "expires": {expires}, "token": {a.token(name, digest, expires)}}
	return a.cfg.BaseURL + DownloadPath + name + "?" + q.Encode()
}

func (a *API) token(function, digest, expires string) string {
	m := hmac.New(sha256.New, a.key[:])
	for _, part := range []string{function, digest, expires} {
		io.WriteString(m, part)
		m.Write([]byte{0})
	}
	return hex.EncodeToString(m.Sum(nil))
}

// Downloads serves the links of GetFunction: GET and HEAD of DownloadPath plus the function's name. It needs no
// credentials, since the link itself is one. Answers: 200 with the package, 403 for a link that is expired, altered or of
// another process, 404 when the package is gone.
func (a *API) Downloads() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+DownloadPath+"{function}", a.download)
	return mux
}

func (a *API) download(w http.ResponseWriter, r *http.Request) {
	function, q := r.PathValue("function"), r.URL.Query()
	digest, expires := q.Get("sha256"), q.Get("expires")
	if !hmac.Equal([]byte(q.Get("token")), []byte(a.token(function, digest, expires))) {
		denied(w, http.StatusForbidden, "This link is not valid. Call GetFunction for a new one.")
		return
	}
	if until, err := strconv.ParseInt(expires, 10, 64); err != nil || a.now().Unix() > until {
		denied(w, http.StatusForbidden, "This link has expired. Call GetFunction for a new one.")
		return
	}
	body, err := a.cfg.Packages.OpenCode(r.Context(), digest)
	if errors.Is(err, state.ErrNotFound) {
		denied(w, http.StatusNotFound, "This package is no longer kept: the function has new code or was deleted.")
		return
	}
	if err != nil {
		a.cfg.Log.ErrorContext(r.Context(), "package download failed", "function", function, "error", err)
		denied(w, http.StatusInternalServerError, "The package could not be read; the platform's log says why.")
		return
	}
	defer body.Close()
	h := w.Header()
	h.Set("Content-Type", "application/zip")
	h.Set("Content-Disposition", `attachment; filename="`+strings.TrimPrefix(function, "layer:")+`.zip"`)
	if f, ok := a.cfg.Functions.Function(function); ok {
		for _, v := range versions(f) {
			if v.Code.SHA256 == digest {
				h.Set("Content-Length", strconv.FormatInt(v.Code.Size, 10))
				break
			}
		}
	}
	if r.Method == http.MethodHead {
		return
	}
	// A reader that fails after the first byte must not look like a whole package.
	if _, err := io.Copy(w, body); err != nil {
		a.cfg.Log.WarnContext(r.Context(), "package download cut short", "function", function, "error", err)
		panic(http.ErrAbortHandler) //nolint:forbidigo // net/http takes it as the order to cut the connection
	}
}

func denied(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]string{"message": message}) //nolint:errcheck // the client has gone
}
