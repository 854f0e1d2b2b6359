import { defineConfig } from "vite";

// The page's files go to console/static, which the Go package carries. Addresses are
// relative, so that the page may stand under any prefix.
export default defineConfig({
  base: "./",
  publicDir: "public",
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    outDir: "../static",
    emptyOutDir: true,
    assetsInlineLimit: 0, // data: addresses are against the page's policy
    modulePreload: { polyfill: false },
    reportCompressedSize: true,
    target: "es2022",
  },
});
