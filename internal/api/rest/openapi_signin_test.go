package rest

import (
	"maps"
	"slices"
)

// addSignIn adds what is no gRPC method: package scheduler/internal/signin answers it.
func addSignIn(paths, schemas object) {
	text := func(description string) object { return object{"type": "string", "description": description} }
	list := func(description string) object {
		return object{"type": "array", "items": object{"type": "string"}, "description": description}
	}
	time := func(description string) object {
		return object{"type": "string", "format": "date-time", "description": description}
	}
	all := func(properties object) object {
		var names []any
		for _, name := range sortedKeys(properties) {
			names = append(names, name)
		}
		return object{"type": "object", "required": names, "properties": properties}
	}
	ends := time("When the session, or what the caller shows, ends; null if it does not.")
	ends["nullable"] = true
	schemas["WhoAmI"] = all(object{
		"name": text("Who asks, for people."), "role": text("viewer, submitter, operator or admin."),
		"kind":      text("How they proved themselves: token, jwt, client, or local where nobody has to."),
		"namespace": text("What this cluster is."), "kinds": list("Patterns of the kinds of task that they are limited to; none for all."),
		"session": object{"type": "boolean", "description": "They are signed in, rather than showing a token each time."},
		"expires": ends, "now": time("The scheduler's clock."), "may": list("The operations of this description that they may call."),
	})
	schemas["SignInWays"] = all(object{
		"needed": object{"type": "boolean", "description": "False where everybody on the machine is an admin."},
		"ways":   list("token, code, certificate, oidc."), "issuer": text("Where oidc leads to; empty without."),
	})
	ref := func(name string) object { return object{"$ref": "#/components/schemas/" + name} }
	done := func(schema object, cookie string) object {
		ok := object{"description": "Done.", "content": object{jsonType: object{"schema": schema}}}
		if cookie != "" {
			ok["headers"] = object{"Set-Cookie": object{"description": cookie, "schema": object{"type": "string"}}}
		}
		return object{"200": ok}
	}
	gone := object{
		"303": object{"description": "To there.", "headers": object{"Location": object{"schema": object{"type": "string"}}}},
	}
	parameter := func(name, in, description string, required bool) object {
		return object{"name": name, "in": in, "required": required, "description": description, "schema": object{"type": "string"}}
	}
	const session = "The cookie of the session, HttpOnly and SameSite=Strict."
	op := func(id, summary, description string, parameters []any, responses object) object {
		out := object{"operationId": id, "tags": []any{"SignIn"}, "summary": summary, "responses": responses}
		if description != "" {
			out["description"] = description
		}
		if parameters != nil {
			out["parameters"] = parameters
		}
		return out
	}
	paths["/v1/signin"] = object{
		"get":  op("SignInWays", "How one can sign in", "Open to anybody.", nil, done(ref("SignInWays"), "")),
		"post": op("SignIn", "Sign in", "Exchanges the credentials of this request, a bearer or a client certificate, for a session. It takes no body.", nil, done(ref("WhoAmI"), session)),
	}
	paths["/v1/signin/code"] = object{"post": op("SignInByCode", "Sign in with a one-time code", "It takes no body. The code is good once.",
		[]any{parameter("Rota-Code", "header", "The code.", true)}, done(ref("WhoAmI"), session))}
	paths["/v1/signin/oidc"] = object{"get": op("SignInByOIDC", "Go to the issuer to sign in", "For browsers, not for scripts.",
		[]any{parameter("return", "query", "The path of the console to go on with.", false)}, gone)}
	paths["/v1/signin/oidc/callback"] = object{"get": op("SignInByOIDCCallback", "Come back from the issuer", "Goes on to the console, or to /signin?error=REASON.", []any{
		parameter("code", "query", "The issuer's code.", false), parameter("state", "query", "What was asked.", false), parameter("error", "query", "Why there is no code.", false),
	}, gone)}
	paths["/v1/signout"] = object{"post": op("SignOut", "End the session", "It takes no body, and succeeds without a session.", nil, done(object{"type": "object"}, "It removes the cookie."))}
	paths["/v1/whoami"] = object{"get": op("WhoAmI", "Who asks, and what they may", "", nil, done(ref("WhoAmI"), ""))}
}

func sortedKeys(o object) []string { return slices.Sorted(maps.Keys(o)) }
