// All tests, as one bundle.
import "./http.test.js";
import "./verdict.test.js";
