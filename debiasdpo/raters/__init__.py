"""Whatever turns prompts into replies, behind one interface (`base`)."""
