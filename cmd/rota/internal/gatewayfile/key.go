package gatewayfile

import "github.com/rota-project/rota/internal/apikey"

// NewKey makes an API key and the line of a keys file that knows it, with its newline.
// The error says why name cannot be a key's.
func NewKey(name string) (key, line string, err error) {
	if err := apikey.CheckName(name); err != nil {
		return "", "", err
	}
	key = apikey.New()
	return key, name + " " + apikey.HashOf([]byte(key)).String() + "\n", nil
}
