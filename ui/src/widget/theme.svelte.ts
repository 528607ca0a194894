/** Stands for lib/theme.svelte.ts in the notebook widget: the theme is that of JupyterLab, VS Code or the system. */

export { hue } from '../lib/theme.svelte';
export type Theme = 'dark' | 'light';

const system = matchMedia('(prefers-color-scheme: dark)');

class NotebookTheme {
  name = $state<Theme>('light');
  private readonly hosts: HTMLElement[] = [];

  /** Keeps the theme of a widget's host; the answer ends that. */
  follow(host: HTMLElement): () => void {
    const show = () => {
      host.dataset.theme = found();
      this.name = found();
    };
    const observer = new MutationObserver(show);
    observer.observe(document.body, { attributeFilter: ['class', 'data-jp-theme-light'] });
    system.addEventListener('change', show);
    this.hosts.push(host);
    show();
    return () => {
      observer.disconnect();
      system.removeEventListener('change', show);
      this.hosts.splice(this.hosts.indexOf(host), 1);
    };
  }
  /** The value of a token in the present theme. */
  value(token: string): string {
    void this.name;
    const host = this.hosts.at(-1);
    return host ? getComputedStyle(host).getPropertyValue(`--${token}`).trim() : '';
  }
}
export const theme = new NotebookTheme();

function found(): Theme {
  const lab = document.body.dataset.jpThemeLight;
  if (lab !== undefined) return lab === 'false' ? 'dark' : 'light';
  const code = /\bvscode-(dark|light|high-contrast)\b/.exec(document.body.className)?.[1];
  if (code !== undefined) return code === 'light' ? 'light' : 'dark';
  return system.matches ? 'dark' : 'light';
}
