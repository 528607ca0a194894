/** Dark or light, per browser; the tokens' values for canvases. */

const KEY = 'spanbox.theme';
export type Theme = 'dark' | 'light';

class ThemeState {
  name = $state<Theme>('dark');
  private values = new Map<string, string>();

  start(): void {
    const stored = localStorage.getItem(KEY);
    const preferred = matchMedia('(prefers-color-scheme: light)').matches ? 'light' : 'dark';
    this.show(stored === 'dark' || stored === 'light' ? stored : preferred);
  }
  toggle(): void {
    this.show(this.name === 'dark' ? 'light' : 'dark');
    localStorage.setItem(KEY, this.name);
  }
  /** The value of a token in the present theme. */
  value(token: string): string {
    void this.name;
    let value = this.values.get(token);
    if (value === undefined) {
      value = getComputedStyle(document.documentElement).getPropertyValue(`--${token}`).trim();
      this.values.set(token, value);
    }
    return value;
  }
  private show(theme: Theme): void {
    document.documentElement.dataset.theme = theme;
    this.values.clear();
    this.name = theme;
  }
}
export const theme = new ThemeState();

/** The token of a model: the seventh and later ones are told apart by their names. */
export function hue(color: number | null | undefined): string {
  return color != null && color >= 0 && color < 6 ? `m${color + 1}` : 'k2';
}
