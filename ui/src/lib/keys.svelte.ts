/** One listener for the keyboard; pages add and remove what their keys do. */

export interface Binding {
  keys: readonly string[]; // KeyboardEvent.key, 'g o' for one after another, 'ctrl+k'
  label: string;
  group: string;
  run: (event: KeyboardEvent) => void;
}

const SEQUENCE_MS = 1200;
const TYPING = 'input:not([type=checkbox]):not([type=radio]), textarea, select, [contenteditable]';

class Keys {
  bindings = $state.raw<readonly Binding[]>([]);
  isHelpOpen = $state(false);
  isPaletteOpen = $state(false);
  private prefix = '';
  private prefixAt = 0;

  /** Adds bindings, later ones first; the answer takes them away again. */
  use(added: readonly Binding[]): () => void {
    this.bindings = [...added, ...this.bindings];
    return () => {
      this.bindings = this.bindings.filter((one) => !added.includes(one));
    };
  }

  handle(event: KeyboardEvent): void {
    if (event.defaultPrevented || event.isComposing) return;
    const key = name(event);
    const isTyping = event.target instanceof Element && event.target.closest(TYPING) !== null;
    if (isTyping && key !== 'ctrl+k') return;
    if (document.querySelector('dialog[open]') && key !== 'ctrl+k') return;
    const isSequence = this.prefix !== '' && event.timeStamp - this.prefixAt < SEQUENCE_MS;
    const wanted = isSequence ? `${this.prefix} ${key}` : key;
    this.prefix = '';
    const binding = this.bindings.find((one) => one.keys.includes(wanted));
    if (binding) {
      if (isControl(event.target) && (key === 'Enter' || key === ' ')) return;
      event.preventDefault();
      binding.run(event);
    } else if (this.bindings.some((one) => one.keys.some((keys) => keys.startsWith(`${key} `)))) {
      this.prefix = key;
      this.prefixAt = event.timeStamp;
    }
  }
}

function name(event: KeyboardEvent): string {
  if (event.ctrlKey || event.metaKey) return `ctrl+${event.key.toLowerCase()}`;
  return event.altKey ? `alt+${event.key}` : event.key;
}

function isControl(target: EventTarget | null): boolean {
  return target instanceof Element && target.closest('a, button, summary, [role=treeitem], [role=img]') !== null;
}

export const keys = new Keys();
