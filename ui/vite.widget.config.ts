import { fileURLToPath } from 'node:url';
import { svelte } from '@sveltejs/vite-plugin-svelte';
import { defineConfig, type Plugin } from 'vite';

const widget = (name: string) => fileURLToPath(new URL(`src/widget/${name}`, import.meta.url));
const INSTEAD: Readonly<Record<string, string>> = { client: widget('client.svelte.ts'), 'theme.svelte': widget('theme.svelte.ts') };

/** The page's components ask src/widget instead of the server, and take the notebook's theme. */
const elsewhere: Plugin = {
  name: 'elsewhere',
  enforce: 'pre',
  resolveId: (source, importer) => (importer?.includes('/src/lib/') ? (INSTEAD[source.replace('./', '')] ?? null) : null),
};

// One file that imports nothing, styles and all, beside the page in the wheel.
export default defineConfig({
  plugins: [elsewhere, svelte({ compilerOptions: { css: 'injected' } })],
  publicDir: false,
  build: {
    target: 'es2022',
    outDir: 'dist-widget',
    modulePreload: false,
    rolldownOptions: {
      input: widget('widget.ts'),
      preserveEntrySignatures: 'strict',
      treeshake: { moduleSideEffects: (id) => !id.includes('uplot') }, // a chart's helper draws the lane; there is no chart
      output: { entryFileNames: 'trace_viewer.js', codeSplitting: false },
    },
  },
});
