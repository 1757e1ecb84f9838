"""A chat room with GraphQL: each subscriber receives the messages of the others."""

import asyncio
from collections.abc import AsyncGenerator

import strawberry
from strawberry.asgi import GraphQL

members: set[asyncio.Queue[str]] = set()


@strawberry.type
class Query:
    @strawberry.field
    def members(self) -> int:
        return len(members)


@strawberry.type
class Mutation:
    @strawberry.mutation
    def say(self, text: str) -> int:
        for member in members:
            member.put_nowait(text)
        return len(members)


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def said(self, most: int = 1000) -> AsyncGenerator[str, None]:
        member: asyncio.Queue[str] = asyncio.Queue()
        members.add(member)
        try:
            for _ in range(most):
                yield await member.get()
        finally:
            members.remove(member)


application = GraphQL(strawberry.Schema(Query, Mutation, Subscription))
