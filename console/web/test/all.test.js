// All tests, as one bundle.
import "./http.test.js";
import "./verdict.test.js";
import "./fold.test.js";
import "./functions.test.js";
import "./argv.test.js";
import "./format.test.js";
