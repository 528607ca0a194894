"""Adapters for libraries that have hooks of their own. Each is loaded by who names it, and needs its library:
spanbox.integrations.langchain, spanbox.integrations.litellm."""
