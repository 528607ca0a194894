import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig } from 'vitest/config';

// The server maps routes to this one page and lists the files of dist/: nothing is inlined, nothing comes from elsewhere.
export default defineConfig({
  plugins: [svelte()],
  build: {
    target: 'es2022',
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 200,
  },
  server: { proxy: { '/api': process.env.SPANBOX_UI ?? 'http://127.0.0.1:4318' } },
  test: { include: ['tests/**/*.test.ts'] },
});
