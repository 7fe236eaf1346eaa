"""The rollout controller: looks at each open rollout every few seconds, and moves it as its policy says."""
