"""The audit: does every accepted request have exactly one outcome?"""
