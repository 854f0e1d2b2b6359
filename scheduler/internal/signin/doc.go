// Package signin signs people in at browsers. Package scheduler/server puts its
// handler beside the API's, and asks its Keeper whose cookie a request brings.
//
//	token │ client certificate │ one-time code │ OpenID Connect
//	      └──► a session in the store ──► a cookie, for all schedulers of the cluster
//
// The store keeps a session under a hash of the secret that the cookie holds, so
// whoever reads the store cannot sign in. A session gives nothing that the credentials
// behind it would not give at that moment, and ends with them; see package auth.
//
// It must never decide what somebody may do, and never redirect to where a request
// says.
package signin
