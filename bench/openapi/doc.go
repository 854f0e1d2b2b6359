// Package openapi checks the API's description (api/rota/v1/openapi.json) with a validator
// that is not ours, by itself and against what a server answers on every route. It is
// in this module so that the validator is no part of the product.
package openapi
