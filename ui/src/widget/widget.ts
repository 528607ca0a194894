/**
 * The trace viewer of notebooks: what anywidget loads, one file without imports. It lives in a shadow root, so that the
 * notebook's styles and its own do not meet.
 */

import { mount, unmount } from 'svelte';
import css from '../app.css?inline';
import { Kernel, type Model } from './client.svelte';
import { theme } from './theme.svelte';
import TraceWidget from './TraceWidget.svelte';

const scoped = css.replace(/:root(\[[^\]]*\])?/g, (_, which: string | undefined) => (which ? `:host(${which})` : ':host')).replace(/html,\s*body/, '.spanbox');

function render({ model, el }: { model: Model; el: HTMLElement }): () => void {
  const host = document.createElement('div');
  host.dataset.lmSuppressShortcuts = 'true'; // JupyterLab leaves keys pressed in here alone
  const root = host.attachShadow({ mode: 'open' });
  const style = document.createElement('style');
  style.textContent = `${scoped}.spanbox{height:auto}:host{display:block}`;
  const target = document.createElement('div');
  target.className = 'spanbox';
  root.append(style, target);
  el.append(host);
  const unfollow = theme.follow(host);
  const kernel = new Kernel(String(model.get('trace_id')), model);
  const app = mount(TraceWidget, { target, props: { kernel, heightPx: Number(model.get('height_px')) } });
  return () => {
    unfollow();
    kernel.close();
    void unmount(app);
  };
}

export default { render };
